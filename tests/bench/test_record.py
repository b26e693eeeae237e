import json
import subprocess

import pytest

from sglang_glm52.bench.record import Environment, Record, checkout_commit, table

ENVIRONMENT = Environment(gpu="NVIDIA H200", driver="580.159.03", torch="2.11.0", sglang="0.5.13.post1", commit=None)


def record(**results: object) -> Record:
    return Record(bench="shard", settings={"batch": (1, 16)}, environment=ENVIRONMENT, results=results)


def test_the_json_line_is_one_line_and_says_where_it_was_measured():
    line = record(text="two\nlines").json_line()
    assert "\n" not in line
    found = json.loads(line)
    assert found["environment"]["gpu"] == "NVIDIA H200"
    assert found["settings"] == {"batch": [1, 16]} and found["results"] == {"text": "two\nlines"}


def test_the_json_line_is_strict():
    with pytest.raises(ValueError):
        record(ms=float("nan")).json_line()


def test_a_table_is_aligned_and_prints_a_missing_value():
    lines = table(["kernel", "ms"], [["a long kernel name", 1.239], ["b", None]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].count("|") == 3 and lines[1].endswith(":|")
    assert lines[2].split("|")[1:3] == [" a long kernel name ", " 1.24 "]
    assert lines[3].split("|")[2].strip() == "-"


def test_a_table_without_rows_has_its_header():
    assert table(["kernel", "ms"], []).splitlines()[0] == "| kernel | ms |"


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_the_checkouts(tmp_path):
    file = tmp_path / "record.py"
    file.write_text("pass\n")
    assert checkout_commit(file) is None  # no checkout at all
    git(tmp_path, "init", "-q")
    assert checkout_commit(file) is None  # a checkout of something else, such as the folder of an environment
    git(tmp_path, "add", "record.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert checkout_commit(file) == git(tmp_path, "rev-parse", "--short=12", "HEAD")
    file.write_text("pass  # changed\n")
    assert checkout_commit(file) == git(tmp_path, "rev-parse", "--short=12", "HEAD") + "-dirty"

import argparse
import json

import pytest
from bench.rounds_made_up import RESULTS, SETTINGS

from sglang_glm52.bench.shard import add_arguments, run
from sglang_glm52.bench.shard_file import ShardFile
from sglang_glm52.errors import ConfigError


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


@pytest.fixture
def path(tmp_path):
    ShardFile(SETTINGS, RESULTS).write(tmp_path / "eagle.json")
    return tmp_path / "eagle.json"


def test_a_file_survives(path):
    assert ShardFile.read(path) == ShardFile(SETTINGS, RESULTS)
    assert list(path.parent.iterdir()) == [path]


def test_what_was_written_is_reported_without_a_gpu(path, capsys):
    assert run(parse("--from", str(path), "--kernels", "0")) == 0
    lines = capsys.readouterr().out.splitlines()
    record = json.loads(lines[-1])
    assert record["settings"] == SETTINGS and record["environment"]["gpu"] == "NVIDIA H200"
    assert record["results"]["tok_s"]["ours 3-1-4"]["0.0"] == 50.0
    assert lines[0].startswith("tokens a second of one stream")


def test_a_picture_is_drawn_from_what_was_written(path):
    pytest.importorskip("matplotlib")
    for name in ("a.png", "b.png"):
        assert run(parse("--from", str(path), "--plot", str(path.parent / name))) == 0
    picture = (path.parent / "a.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and picture == (path.parent / "b.png").read_bytes()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nothing.json: no such file; give one that `glm52 bench shard --out` wrote"):
        run(parse("--from", str(tmp_path / "nothing.json")))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"settings": {}}', '{"settings": {}, "host": {}}', '{"settings": {}, "host": 3}']
)
def test_a_file_of_another_kind_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match="a.json: .*; expected a file that this version's `glm52 bench shard --out`"):
        run(parse("--from", str(tmp_path / "a.json")))

"""`glm52 bench parser`, on a short argument."""

from __future__ import annotations

import argparse
import json

import pytest

from sglang_glm52.bench import parser as bench
from sglang_glm52.errors import ConfigError


def parsed(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(options)


def test_it_ends_with_one_json_line(capsys):
    assert bench.run(parsed("--chars", "3000", "--host-chars", "2000", "--repeats", "1")) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    sizes = [(timing["parser"], timing["num_chars"]) for timing in record["results"]["timings"]]
    assert sizes == [("ours", 1500), ("ours", 3000), ("ours", 2000), ("host", 2000)]
    assert record["results"]["times_the_hosts_speed"] > 1
    assert record["settings"] == {"chars": 3000, "host_chars": 2000, "piece": 3, "repeats": 1}


def test_a_parser_that_loses_something_is_not_timed():
    with pytest.raises(RuntimeError, match="'x' did not give back"):
        bench._check("x", '{"path": "a.py", "content": ""}', "a")


def test_refusals():
    with pytest.raises(ConfigError, match="--chars 1"):
        bench.run(parsed("--chars", "1"))
    with pytest.raises(SystemExit):
        parsed("--piece", "0")

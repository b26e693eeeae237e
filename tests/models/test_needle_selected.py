"""Needles in a long prompt are among what the indexer selects: model, engine, KV pool and torch backend on the CPU.

A selection of 64 out of 3,000 positions at random would hold a needle in one of 47 rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import needle_engine

from sglang_glm52.testing.server import CPU_ENVIRON

LENGTH, NEEDLES = 3000, 40


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("needle") / "model"
    model = needle_engine.write_config(folder, "cpu", vocab_size=2048, index_topk=64)
    command = [sys.executable, str(Path(needle_engine.__file__)), str(model), "cpu", str(LENGTH), str(NEEDLES)]
    environ = {**os.environ, **CPU_ENVIRON, "SGLANG_PLUGINS": "glm52"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_engine_is_ours(found):
    assert (found["device"], found["indexer"], found["topk"]) == ("cpu", "TorchIndexer", 64)


def test_needles_at_every_depth_are_selected_in_a_prefill(found):
    assert len(found["depths"]) == NEEDLES and found["depths"][0] < 300 and found["depths"][-1] > 2500
    assert found["missed"] == []


def test_and_in_decode_steps(found):
    assert found["missed_in_decode"] == []


def test_a_row_that_asks_for_another_needle_rarely_has_this_one(found):
    """Or every row would select every needle, and nothing above would follow from the scores."""
    assert found["seen_by_others"] < NEEDLES / 4

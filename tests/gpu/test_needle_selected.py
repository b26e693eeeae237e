"""Needles in a prompt of a million tokens are among the 2,048 positions that the CUDA indexer selects.

The host's keys in FP8, its scores in pieces, its top-k over 1,048,000 positions and its KV pool, in one layer; how a
token's query comes to match its own key is said in tests/models/needle_engine.py. By chance a row would select a needle
in one of 512 cases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import needle_engine

pytestmark = pytest.mark.gpu

LENGTH, NEEDLES = 1_048_000, 100


@pytest.fixture(scope="module", params=[0, 512], ids=["default workspace", "512 MiB workspace"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("needle") / "model"
    model = needle_engine.write_config(folder, "gpu", vocab_size=65_536, max_position_embeddings=1 << 20)
    command = [sys.executable, str(Path(needle_engine.__file__)), str(model), "cuda", str(LENGTH), str(NEEDLES)]
    environ = {**os.environ, "SGLANG_PLUGINS": "glm52"}
    if request.param:
        environ["SGLANG_GLM52_LOGITS_MIB"] = str(request.param)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_needles_at_every_depth_are_selected(found: dict) -> None:
    assert (found["indexer"], found["topk"]) == ("BoundedIndexer", 2048) and found["device"].startswith("cuda")
    assert len(found["depths"]) == NEEDLES and found["depths"][0] < 50_000 and found["depths"][-1] > 1_000_000
    assert found["missed"] == [] and found["missed_in_decode"] == []
    assert found["seen_by_others"] < NEEDLES / 4

"""The CPU prepares a round of speculation without waiting for the one before it.

The `dsa` backend and the hooks for draft steps and draft-extend are needed for that. What rounds put out is tested in
test_rounds_equal.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sglang_glm52.tiny import build

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = build(tmp_path_factory.mktemp("rounds") / "model", "gpu", "bf16", 0, overrides={"num_hidden_layers": 5})
    script = Path(__file__).parent / "gpu_rounds.py"
    environ = {**os.environ, "SGLANG_PLUGINS": "glm52", "SGLANG_GLM52_SPEC_ROUNDS": "ahead"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("setting", ["1-1-2", "3-1-4"])
def test_two_rounds_are_launched_while_the_gpu_is_held_up(seen: dict, setting: str) -> None:
    """For one request, and for three in the graphs of four."""
    assert seen[setting]["ahead"] == [2, 2]


@pytest.mark.parametrize("setting", ["1-1-2", "3-1-4"])
def test_draft_extend_has_a_graph_for_each_batch_size(seen: dict, setting: str) -> None:
    assert seen[setting]["extend_graphs"] == [1, 4]

"""Rounds of EAGLE on the real scheduler and worker, with a shard small enough for a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.test_shard_engine import SMALL

from sglang_glm52.bench.shard_config import rank_shard


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("model")
    config = {**rank_shard("fp8", num_layers=7), **SMALL}
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    script = Path(__file__).parent / "cpu_rounds.py"
    environ = {**os.environ, "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "glm52"}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_target_and_draft_are_the_classes_asked_for(seen):
    assert seen["model_class"] == "sglang_glm52.models.glm52.GlmMoeDsaForCausalLM"
    assert seen["draft_class"] == "sglang_glm52.models.glm52_mtp.GlmMoeDsaForCausalLMNextN"


def test_rounds_give_the_tokens_of_plain_decoding(seen):
    """Whichever setting, and one after another in the same process."""
    assert [found["tokens"] for found in seen["rounds"]] == [seen["plain"]] * 4


def test_every_draft_token_of_every_request_is_verified(seen):
    assert [found["rows"] for found in seen["rounds"]] == [3 * 4, 3 * 2, 3 * 6, 3 * 4]


def test_random_weights_accept_next_to_nothing(seen):
    assert all(found["accepted"] < 0.2 for found in seen["rounds"])


def test_stopping_frees_every_slot(seen):
    assert {found["free"] for found in seen["rounds"]} == {4096}


def test_speculation_leaves_plain_decoding_as_it_was(seen):
    assert seen["plain_again"] == seen["plain"]

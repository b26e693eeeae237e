"""The bench's engine, weights and router watch on the real engine, with a shard small enough for a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sglang_glm52.bench.shard_config import rank_shard
from sglang_glm52.bench.shard_report import uniform_experts_hit

NUM_EXPERTS, TOP_K = 16, 4
SMALL = {
    "hidden_size": 128,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "n_routed_experts": NUM_EXPERTS,
    "num_experts_per_tok": TOP_K,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "qk_head_dim": 32,
    "v_head_dim": 16,
    "index_head_dim": 32,
    "index_n_heads": 32,  # with few heads many scores are exactly zero, and ties are broken anyhow
    "index_topk": 64,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("model")
    config = {**rank_shard("fp8", num_layers=7), **SMALL}
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    script = Path(__file__).parent / "cpu_engine.py"
    environ = {**os.environ, "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "glm52"}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_class_asked_for_is_measured(seen):
    assert seen["model_class"] == "sglang_glm52.models.glm52.GlmMoeDsaForCausalLM"


def test_another_class_than_the_one_asked_for_is_refused(seen):
    assert "expected a class of sglang.srt.models" in seen["refusal"]
    assert "sglang_glm52.models.glm52.GlmMoeDsaForCausalLM" in seen["refusal"]


def test_prompts_give_the_same_in_one_chunk_or_several(seen):
    """Chunks, groups of prompts, their merging and every decode step after."""
    assert seen["shape"] == [4, 4, 512] and seen["worst"] < 1e-3


def test_seeded_weights_keep_values_in_range(seen):
    assert seen["is_finite"] and 0.5 < seen["logit_std"] < 2.0


def test_rows_stay_apart(seen):
    """With the host's dummy weights all rows are alike and every token picks the same experts."""
    assert seen["nearest_rows"] > 1.0


def test_routing_spreads_nearly_as_if_it_were_uniform(seen):
    assert seen["routed_layers"] == 4
    assert seen["experts_hit"]["1"] == TOP_K
    assert seen["experts_hit"]["4"] > 0.9 * uniform_experts_hit(NUM_EXPERTS, TOP_K, 4)

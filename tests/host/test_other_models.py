"""A model that is none of ours runs on the CPU engine as it does without this plugin."""

from __future__ import annotations

import json
from pathlib import Path

from sglang_glm52.testing.engine import Job, Run, run_engine

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 256,
    "dtype": "float32",
}


def serve(folder: Path, plugins: str) -> list[Run]:
    prompts = [[i % 256 for i in range(length)] for length in (3, 70, 200)]
    job = Job(prompts, max_new_tokens=8, vocab_size=LLAMA["vocab_size"])
    args = {"load_format": "dummy", "dtype": "float32", "max_total_tokens": 2048, "chunked_prefill_size": 128}
    [runs] = run_engine(folder, [job], device="cpu", environ={"SGLANG_PLUGINS": plugins}, **args)
    return runs


def test_a_llama_answers_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    for ours, without in zip(serve(tmp_path, "glm52"), serve(tmp_path, "none"), strict=True):
        assert ours.output_ids == without.output_ids
        assert (ours.output_logprobs == without.output_logprobs).all() and without.output_logprobs.size

"""Log-probabilities of the real engine on the CPU against the transformers implementation, float32, every position."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from reference.client import reference_logprobs

from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE

TOPK = 64  # index_topk of the cpu preset
BOUND = 1e-3  # of log-probabilities in nats; measured: below 3e-5
NUM_NEW = 8

PATTERNS = {
    "published": {},
    "all_full": {"index_topk_freq": None, "index_skip_topk_offset": None},
    "irregular": {
        "index_topk_freq": None,
        "index_skip_topk_offset": None,
        "indexer_types": ["full", "shared", "shared", "full", "full", "shared", "full", "shared"],
    },
}


def make_prompts() -> list[list[int]]:
    rng = random.Random(52)
    lengths = [1, 5, TOPK - 1, TOPK, TOPK + 1, 3 * TOPK + 7, 8 * TOPK]
    return [[rng.randrange(256) for _ in range(length)] for length in lengths]


def assert_same(label: str, got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape, f"{label}: {got.shape} vs {want.shape}"
    assert np.isfinite(got).all(), f"{label}: not finite"
    worst = np.abs(got - want).max()
    assert worst <= BOUND, f"{label}: log-probabilities differ by {worst:.2e}"
    assert (got.argmax(-1) == want.argmax(-1)).all(), f"{label}: another top-1"


def serve(checkpoint: Path, prompts: list[list[int]], **engine_args) -> list[list[Run]]:
    """All prompts in one batch scored from the start, then again so that they hit the cache and continue."""
    jobs = [
        Job(prompts, max_new_tokens=NUM_NEW, vocab_size=VOCAB_SIZE),
        Job(prompts, max_new_tokens=NUM_NEW, score_from=-1, vocab_size=VOCAB_SIZE),
    ]
    args = {"dtype": "float32", "max_total_tokens": 16384, **engine_args}
    return run_engine(checkpoint, jobs, device="cpu", **args)


@pytest.mark.parametrize("chunk", [8192, 64], ids=["one_shot", "chunked"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_equals_transformers(pattern: str, chunk: int, tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "model", overrides=PATTERNS[pattern])
    prompts = make_prompts()
    first, second = serve(checkpoint, prompts, chunked_prefill_size=chunk)
    continued = [prompt + run.output_ids for prompt, run in zip(prompts, first, strict=True)]
    for prompt, a, b, want in zip(
        prompts, first, second, reference_logprobs(checkpoint, continued, tmp_path), strict=True
    ):
        label = f"{pattern}, chunks of {chunk}, {len(prompt)} tokens"
        assert_same(f"{label}, prefill", a.prompt_logprobs, want[: len(prompt)])
        decoded = want[len(prompt) - 1 : len(prompt) - 1 + NUM_NEW]
        assert_same(f"{label}, decode", a.output_logprobs, decoded)
        assert b.cached_tokens >= len(prompt) // 64 * 64 - 64, f"{label}: prefix cache not used"
        assert_same(f"{label}, decode after a prefix-cache hit", b.output_logprobs, decoded)


def test_selection_matters(tmp_path: Path) -> None:
    """The comparison above is worth nothing on a model that answers the same with every position selected."""
    sparse = build(tmp_path / "sparse")
    dense = build(tmp_path / "dense", overrides={"index_topk": 8 * TOPK})
    prompt = [make_prompts()[-1]]
    a, b = reference_logprobs(sparse, prompt, tmp_path)[0], reference_logprobs(dense, prompt, tmp_path)[0]
    assert np.abs(a[:TOPK] - b[:TOPK]).max() < BOUND
    assert np.abs(a[TOPK:] - b[TOPK:]).max() > 100 * BOUND


def test_fp8_equals_its_dequantised_weights(tmp_path: Path) -> None:
    """An FP8 checkpoint computes with exactly what its blocks decode to."""
    fp8 = build(tmp_path / "fp8", fmt="fp8")
    plain = write_dequantised(fp8, tmp_path / "plain")
    prompts = make_prompts()[:-1]  # each row more is a chance that rounding swaps two scores at the selection's edge
    first, _ = serve(fp8, prompts)
    for prompt, run, want in zip(prompts, first, reference_logprobs(plain, prompts, tmp_path), strict=True):
        assert_same(f"fp8, {len(prompt)} tokens", run.prompt_logprobs, want)


def test_bfloat16_is_as_near_as_the_references_own(tmp_path: Path) -> None:
    """Rounding in other places moves single values by as much again, not the mean."""
    checkpoint, prompts = build(tmp_path / "model"), make_prompts()
    first, _ = serve(checkpoint, prompts, dtype="bfloat16")
    exact, rounded = (reference_logprobs(checkpoint, prompts, tmp_path, dtype) for dtype in ("float32", "bfloat16"))
    for prompt, run, want, theirs in zip(prompts, first, exact, rounded, strict=True):
        likely = want > -8.0  # what never happens says little
        ours, reference = (np.abs(got - want)[likely].mean() for got in (run.prompt_logprobs, theirs))
        assert 0 < ours < 1.5 * reference, f"{len(prompt)} tokens: {ours:.3f}, the reference's {reference:.3f}"


def write_dequantised(fp8: Path, out: Path) -> Path:
    """A float32 copy of an FP8 checkpoint, its weights decoded one element at a time by the format's definition."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {}
    for shard in sorted(fp8.glob("*.safetensors")):
        tensors |= load_file(shard)
    plain = {}
    for name, tensor in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        if tensor.dtype == torch.float8_e4m3fn:
            row, col = (torch.arange(size) // 128 for size in tensor.shape)
            tensor = tensor.double() * tensors[f"{name}_scale_inv"].double()[row][:, col]
        plain[name] = tensor.float().contiguous()
    out.mkdir()
    save_file(plain, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((fp8 / "config.json").read_text())
    del config["quantization_config"]
    (out / "config.json").write_text(json.dumps(config))
    return out

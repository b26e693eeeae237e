"""Log-probabilities of the real engine on the CPU against the transformers implementation, float32, every position."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.client import reference_logprobs
from safetensors.torch import load_file, save_file

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


@pytest.mark.parametrize(
    ("pattern", "chunk"),
    [("published", 8192), ("published", 64), ("all_full", 8192), ("irregular", 64)],
    ids=["published-one_shot", "published-chunked", "all_full-one_shot", "irregular-chunked"],
)
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


@pytest.mark.parametrize("fmt", ["fp8", "w4afp8"])
def test_a_quantised_checkpoint_equals_its_decoded_weights(fmt: str, tmp_path: Path) -> None:
    """It computes with exactly what its blocks and groups decode to."""
    quantised = build(tmp_path / fmt, fmt=fmt)
    plain = write_decoded(quantised, tmp_path / "plain")
    prompts = make_prompts()[:-1]  # each row more is a chance that rounding swaps two scores at the selection's edge
    first, _ = serve(quantised, prompts)
    for prompt, run, want in zip(prompts, first, reference_logprobs(plain, prompts, tmp_path), strict=True):
        assert_same(f"{fmt}, {len(prompt)} tokens", run.prompt_logprobs, want)


def test_bfloat16_is_as_near_as_the_references_own(tmp_path: Path) -> None:
    """Rounding in other places moves single values by as much again, not the mean."""
    checkpoint, prompts = build(tmp_path / "model"), make_prompts()
    first, _ = serve(checkpoint, prompts, dtype="bfloat16")
    exact, rounded = (reference_logprobs(checkpoint, prompts, tmp_path, dtype) for dtype in ("float32", "bfloat16"))
    for prompt, run, want, theirs in zip(prompts, first, exact, rounded, strict=True):
        likely = want > -8.0  # what never happens says little
        ours, reference = (np.abs(got - want)[likely].mean() for got in (run.prompt_logprobs, theirs))
        assert 0 < ours < 1.5 * reference, f"{len(prompt)} tokens: {ours:.3f}, the reference's {reference:.3f}"


def write_decoded(quantised: Path, out: Path) -> Path:
    """A float32 copy of a checkpoint, its weights decoded one element at a time by the formats' definitions."""
    tensors = {}
    for shard in sorted(quantised.glob("*.safetensors")):
        tensors |= load_file(shard)
    plain = {
        name: decode(tensor, tensors.get(f"{name}_scale_inv")).float().contiguous()
        for name, tensor in tensors.items()
        if not name.endswith("_scale_inv")
    }
    out.mkdir()
    save_file(plain, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((quantised / "config.json").read_text())
    del config["quantization_config"]
    (out / "config.json").write_text(json.dumps(config))
    return out


def decode(tensor: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    if tensor.dtype == torch.float8_e4m3fn:
        row, col = (torch.arange(size) // 128 for size in tensor.shape)
        return tensor.double() * scale.double()[row][:, col]
    if tensor.dtype == torch.int8:
        byte = tensor.long() % 256
        nibbles = torch.stack([byte % 16, byte // 16], dim=-1).flatten(1)  # the even input is the low one
        values = torch.where(nibbles < 8, nibbles, nibbles - 16).double()
        return values * scale.double()[:, torch.arange(values.shape[1]) // 128]
    return tensor

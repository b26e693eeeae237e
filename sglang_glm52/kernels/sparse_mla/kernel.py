"""Sparse latent attention of one rank: few heads, slots that each token selected, an FP8 cache, in one launch.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_sparse_mla.py
path: fused.py (CUDA C++)  its sizes: tuning.py
"""

from __future__ import annotations

import torch

from sglang_glm52.kernels.sparse_mla.tuning import LATENTS, ROPE, TOPK_MULTIPLE

SLOT_BYTES = LATENTS + 4 * (LATENTS // 128) + 2 * ROPE
HEADS = (4, 8, 16)  # that the kernel is made for: others would leave most of its products idle
_ALIGNMENT = 16  # bytes that are loaded at once


def sparse_mla(
    q_nope: torch.Tensor, q_rope: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor, scale: float
) -> torch.Tensor:
    """softmax(scale * q . k) . v over the selected slots; k is a slot's latents and rotary part, v its latents.

    Scores, sums and the softmax are float32; the weights of values are rounded to 11 bits. Equal arguments give equal
    bits, whatever else runs. Nothing waits for the device, so a CUDA graph can hold the call.

    Args:
        q_nope: [num_tokens, heads, 512] bf16 on a GPU, `kv_b_proj` absorbed. q_rope: [num_tokens, heads, 64] bf16.
            Strides of tokens and heads are free, in multiples of 8: views of one [num_tokens, heads, 576] will do.
        cache: [num_slots, 656] or [num_slots, 1, 656] of one-byte elements, contiguous: 512 e4m3
            latents, their four float32 scales (not negative), 64 bf16 rotary numbers.
        slots: [num_tokens, topk] int32, contiguous, in any order; a number that is no slot's stands for none.

    Returns:
        A new [num_tokens, heads, 512] bf16; zeros for a token without slots.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.sparse_mla.fused import sparse_mla_fused  # with it come CUDA's bindings

    return sparse_mla_fused(q_nope, q_rope, cache, slots, scale)


def check_inputs(q_nope: torch.Tensor, q_rope: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor) -> None:
    """Raise ValueError, naming the tensor, unless all are as `sparse_mla` describes them. Reads no values."""
    for name, q, width in (("q_nope", q_nope, LATENTS), ("q_rope", q_rope, ROPE)):
        if q.dim() != 3 or q.shape[2] != width or q.dtype != torch.bfloat16:
            raise ValueError(
                f"{name} is {q.dtype} {tuple(q.shape)}; expected {torch.bfloat16} [num_tokens, heads, {width}]"
            )
        if q.stride(2) != 1 or q.stride(0) % 8 or q.stride(1) % 8:
            raise ValueError(f"{name} has strides {q.stride()}; expected multiples of 8, and 1 in the last dimension")
    num_tokens, heads, _ = q_nope.shape
    if q_rope.shape[:2] != q_nope.shape[:2]:
        raise ValueError(f"q_rope is {tuple(q_rope.shape)}; expected {(num_tokens, heads, ROPE)}, as q_nope is")
    if heads not in HEADS:
        raise ValueError(f"q_nope has {heads} heads; expected one of {HEADS}")
    if cache.dim() not in (2, 3) or cache.shape[1:].numel() != SLOT_BYTES or cache.element_size() != 1:
        raise ValueError(f"cache is {cache.dtype} {tuple(cache.shape)}; expected bytes [num_slots, {SLOT_BYTES}]")
    if slots.dim() != 2 or slots.shape[0] != num_tokens or slots.dtype != torch.int32:
        raise ValueError(f"slots is {slots.dtype} {tuple(slots.shape)}; expected {torch.int32} [{num_tokens}, topk]")
    if slots.shape[1] == 0 or slots.shape[1] % TOPK_MULTIPLE:
        raise ValueError(f"slots has {slots.shape[1]} columns; expected a multiple of {TOPK_MULTIPLE}")
    if not q_nope.is_cuda:
        raise ValueError(f"q_nope is on {q_nope.device}; expected a GPU (ref.py runs on a CPU)")
    for name, each in {"q_nope": q_nope, "q_rope": q_rope, "cache": cache, "slots": slots}.items():
        if each.device != q_nope.device:
            raise ValueError(f"{name} is on {each.device}; expected {q_nope.device}, where q_nope is")
        if not name.startswith("q") and not each.is_contiguous():
            raise ValueError(f"{name} has strides {each.stride()}; expected a contiguous tensor")
        if each.data_ptr() % _ALIGNMENT:
            raise ValueError(f"{name} does not start at a multiple of {_ALIGNMENT} bytes; copy it")

"""Sparse latent attention in plain torch, as the formulas stand. Runs on a CPU, in float64 on request."""

from __future__ import annotations

import torch

LATENTS, GROUP = 512, 128
_SCALES = slice(LATENTS, LATENTS + 4 * (LATENTS // GROUP))  # bytes of a slot
_MAX_ROWS = 1 << 17  # of keys that are gathered at once


def sparse_mla(
    q_nope: torch.Tensor, q_rope: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor, scale: float
) -> torch.Tensor:
    """softmax(scale * q . k) . v over the selected slots, in float32; arguments as for `sparse_mla_in`."""
    return sparse_mla_in(torch.float32, q_nope, q_rope, cache, slots, scale)


def sparse_mla_in(
    dtype: torch.dtype,
    q_nope: torch.Tensor,
    q_rope: torch.Tensor,
    cache: torch.Tensor,
    slots: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """The same with all arithmetic, and the result, of a `dtype`.

    Args:
        q_nope: [num_tokens, heads, 512]. q_rope: [num_tokens, heads, 64].
        cache: [num_slots, 656] or [num_slots, 1, 656], one-byte elements.
        slots: [num_tokens, topk] integers; those that are no slot's count as none.

    Returns:
        [num_tokens, heads, 512]; zeros for a token without slots.
    """
    query = torch.cat([q_nope, q_rope], dim=2).to(dtype)
    out = query.new_empty(q_nope.shape)
    step = max(1, _MAX_ROWS // slots.shape[1])
    for first in range(0, len(query), step):
        rows = slice(first, first + step)
        out[rows] = attend(query[rows], cache.view(len(cache), -1), slots[rows], scale)
    return out


def attend(query: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor, scale: float) -> torch.Tensor:
    """`sparse_mla` of some tokens, query [num_tokens, heads, 576]."""
    is_slot = (slots >= 0) & (slots < len(cache))
    keys = dequantize(cache[slots.where(is_slot, 0).long()], query.dtype)  # [num_tokens, topk, 576]
    keys = keys.masked_fill(~is_slot.unsqueeze(2), 0.0)
    scores = torch.einsum("thd,tkd->thk", query, keys) * scale
    weights = scores.masked_fill(~is_slot.unsqueeze(1), float("-inf")).softmax(dim=2)
    return torch.einsum("thk,tkd->thd", weights.nan_to_num(0.0), keys[..., :LATENTS])


def dequantize(rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[..., 656] bytes of the cache -> [..., 576] numbers: latents, then the rotary part."""
    latents = rows[..., :LATENTS].view(torch.float8_e4m3fn).to(dtype).unflatten(-1, (-1, GROUP))
    scales = rows[..., _SCALES].contiguous().view(torch.float32).to(dtype)
    rope = rows[..., _SCALES.stop :].contiguous().view(torch.bfloat16).to(dtype)
    return torch.cat([(latents * scales.unsqueeze(-1)).flatten(-2), rope], dim=-1)


def quantize(latents: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
    """[n, 512] and [n, 64] float32 -> [n, 656] bytes, each group's largest value at e4m3's, as the host's pool does."""
    groups = latents.unflatten(1, (-1, GROUP))
    scales = groups.abs().amax(dim=2) / 448.0
    q = (groups / scales.unsqueeze(2)).nan_to_num(0.0).to(torch.float8_e4m3fn).flatten(1)
    parts = (q, scales, rope.to(torch.bfloat16))
    return torch.cat([part.contiguous().view(torch.uint8) for part in parts], dim=1)

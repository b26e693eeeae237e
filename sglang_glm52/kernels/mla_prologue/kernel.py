"""What a layer computes between its projections and its attention, in one launch for each place where it can stand.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_mla_prologue.py
path: fused.py (CUDA C++)  arguments: checks.py

    q_a, kv_a -> mla_prologue -> q_b -> absorbed_query, or mla_query beside the product with w_kc -> attention
                              -> wq_b, wk, weights_proj -> index_prologue -> scores

Each result, but for sums in `absorbed_query`, is the host's to the bit: its kernels' order of sums, fused
multiplications and roundings are kept. Nothing waits for the device or allocates but for results, and shapes depend on
no value, so a CUDA graph can hold the calls. Weights are read before the kernels queued ahead have ended: none of those
may write them.
"""

from __future__ import annotations

import torch

ROPE = 64  # numbers of a head that are turned, neighbours in pairs
GROUP = 128  # numbers that share a scale
INDEX_DIM = 128
MAX_ABSORBED_TOKENS = 16


def slot_bytes(kv_rank: int) -> int:
    """Of a token in a layer of the KV pool: e4m3 numbers, a float32 scale for each 128, the rotary part in bf16."""
    return kv_rank + 4 * (kv_rank // GROUP) + 2 * ROPE


def mla_query(q: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor, out: torch.Tensor) -> None:
    """Write the rotary parts of queries and zeros for the heads that fill up; the caller writes the rest of `out`.

    That rest, out[:, :num_heads, :-64], is the product with `w_kc`, which cuBLAS can write in place.

    Args:
        q: [num_tokens, num_heads, head_dim] bf16, contiguous; the last 64 of `head_dim` are turned.
        positions: [num_tokens] int64.
        cos_sin: [num_positions, 64] float32, 32 cosines and 32 sines.
        out: [num_tokens, num_padded_heads, latent + 64] bf16, contiguous, `num_padded_heads` a multiple of 4.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.mla_prologue.fused import mla_query_fused  # with it come CUDA's bindings

    mla_query_fused(q, positions, cos_sin, out)


def absorbed_query(
    q: torch.Tensor, w_kc: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor, num_padded_heads: int
) -> torch.Tensor:
    """Queries as sparse attention reads them: q_nope @ w_kc and the rotary part, and zeros for heads that fill up.

    Up to MAX_ABSORBED_TOKENS one launch, whose float32 sums have an order that depends on shapes alone and is not
    cuBLAS's; more tokens are left to cuBLAS and `mla_query`.

    Args:
        q: [num_tokens, num_heads, nope + 64] bf16, contiguous, `nope` a multiple of 32.
        w_kc: [num_heads, nope, latent] bf16, laid out as [num_heads, latent, nope], `latent` a multiple of 32.
        positions: [num_tokens] int64. cos_sin: [num_positions, 64] float32, 32 cosines and 32 sines.
        num_padded_heads: a multiple of 4, `num_heads` at least.

    Returns:
        A new [num_tokens, num_padded_heads, latent + 64] bf16.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.mla_prologue.fused import absorbed_query_fused

    return absorbed_query_fused(q, w_kc, positions, cos_sin, num_padded_heads)


def index_prologue(
    q: torch.Tensor,
    k: torch.Tensor,
    gates: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    pages: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finish an indexer's queries and head weights, and store its keys in the pool.

    Keys get a layer norm; then of both the first 64 numbers are turned, and a Hadamard transform and rounding to e4m3
    follow. A query's scale is a power of two and goes into its head's weight: gate * num_heads^-0.5 * scale * 128^-0.5.

    Args:
        q: [num_tokens, num_heads, 128] bf16. k: [num_tokens, 128] bf16. gates: [num_tokens, num_heads] float32, raw.
        norm_weight, norm_bias: [128] float32.
        positions, slots: [num_tokens] int64. cos_sin: [num_positions, 64] float32, 32 cosines and 32 sines.
        pages: [num_pages, page_size * 132] uint8, to be written to: a page's keys, then their float32 scales.

    Returns:
        New [num_tokens, num_heads, 128] float8_e4m3fn and [num_tokens, num_heads, 1] float32.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.mla_prologue.fused import index_prologue_fused

    return index_prologue_fused(q, k, gates, norm_weight, norm_bias, eps, positions, cos_sin, slots, pages)


def mla_prologue(
    latent: torch.Tensor,
    q_weight: torch.Tensor,
    kv_weight: torch.Tensor,
    eps: float,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    pool: torch.Tensor,
) -> torch.Tensor:
    """Norm the query's latent; norm, turn, round and store what the KV pool keeps of a token.

    Args:
        latent: [num_tokens, q_rank + kv_rank + 64] bf16, rows contiguous, `q_rank` and `kv_rank` multiples of 256.
        q_weight: [q_rank] bf16. kv_weight: [kv_rank] bf16.
        positions, slots: [num_tokens] int64. cos_sin: [num_positions, 64] float32, 32 cosines and 32 sines.
        pool: [num_slots, 1, slot_bytes(kv_rank)] uint8, to be written to.

    Returns:
        A new [num_tokens, q_rank] bf16, the normed query latent.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.mla_prologue.fused import mla_prologue_fused

    return mla_prologue_fused(latent, q_weight, kv_weight, eps, positions, cos_sin, slots, pool)

"""The operations in CUDA C++ (folder cuda), one launch each.

The first call with a shape compiles or loads a kernel: make it before a CUDA graph is captured. The number of tokens is
no part of it, but for `absorbed_query`, which has kernels for up to 8 and up to 16.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sglang_glm52.kernels.cuda_source import Argument, Macros, load
from sglang_glm52.kernels.mla_prologue.checks import (
    HEADS_OF_A_BLOCK,
    check_absorbed,
    check_index,
    check_prologue,
    check_query,
)
from sglang_glm52.kernels.mla_prologue.kernel import INDEX_DIM, MAX_ABSORBED_TOKENS, ROPE

CUDA = Path(__file__).with_name("cuda")
WARP = 32
PROLOGUE_WARPS, ABSORB_WARPS, INDEX_WARPS = 3, 2, 4  # of a block
ABSORB_ROWS, ABSORB_COLUMNS = 16, 8  # latents of a warp, tokens of a product


def mla_prologue_fused(
    latent: torch.Tensor,
    q_weight: torch.Tensor,
    kv_weight: torch.Tensor,
    eps: float,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    pool: torch.Tensor,
) -> torch.Tensor:
    """See `kernel.mla_prologue`: the same arguments, result and errors."""
    check_prologue(latent, q_weight, kv_weight, positions, cos_sin, slots, pool)
    num_tokens, q_rank = latent.shape[0], q_weight.numel()
    q = latent.new_empty(num_tokens, q_rank)
    args = (latent, latent.stride(0), q_weight, kv_weight, eps, positions, cos_sin, slots, pool, q)
    grid = num_tokens, 1
    _launch("latent.cu", "mla_prologue", prologue_macros(q_rank, kv_weight.numel()), grid, PROLOGUE_WARPS, args)
    return q


def mla_query_fused(q: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor, out: torch.Tensor) -> None:
    """See `kernel.mla_query`: the same arguments and errors."""
    check_query(q, positions, cos_sin, out)
    num_tokens, num_heads, head_dim = q.shape
    macros = query_macros(num_heads, out.shape[1], head_dim, out.shape[2])
    grid = num_tokens, out.shape[1] // HEADS_OF_A_BLOCK
    _launch("query.cu", "mla_query", macros, grid, HEADS_OF_A_BLOCK, (q, positions, cos_sin, out))


def absorbed_query_fused(
    q: torch.Tensor, w_kc: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor, num_padded_heads: int
) -> torch.Tensor:
    """See `kernel.absorbed_query`: the same arguments, result and errors."""
    num_tokens, num_heads, head_dim = q.shape
    out = q.new_empty(num_tokens, num_padded_heads, w_kc.shape[2] + ROPE)
    check_query(q, positions, cos_sin, out)
    check_absorbed(q, w_kc)
    if num_tokens > MAX_ABSORBED_TOKENS:
        mla_query_fused(q, positions, cos_sin, out)
        torch.bmm(q[..., :-ROPE].transpose(0, 1), w_kc, out=out[:, :num_heads, :-ROPE].transpose(0, 1))
        return out
    macros = absorbed_macros(num_heads, num_padded_heads, head_dim, out.shape[2], -(-num_tokens // ABSORB_COLUMNS))
    warps = num_heads * w_kc.shape[2] // ABSORB_ROWS + num_tokens * num_padded_heads
    args = (q, w_kc, positions, cos_sin, num_tokens, out)
    _launch("absorbed.cu", "absorbed_query", macros, (warps // ABSORB_WARPS, 1), ABSORB_WARPS, args)
    return out


def index_prologue_fused(
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
    """See `kernel.index_prologue`: the same arguments, results and errors."""
    check_index(q, k, gates, norm_weight, norm_bias, positions, cos_sin, slots, pages)
    num_tokens, num_heads = gates.shape
    q_out = torch.empty_like(q, dtype=torch.float8_e4m3fn)
    weights = gates.new_empty(num_tokens, num_heads, 1)
    inputs = (q, k, gates, norm_weight, norm_bias, eps, positions, cos_sin, slots, num_tokens, num_heads**-0.5)
    grid = -(-num_tokens * (num_heads + 1) // INDEX_WARPS), 1
    macros = index_macros(num_heads, pages.shape[1] // (INDEX_DIM + 4))
    _launch("index.cu", "index_prologue", macros, grid, INDEX_WARPS, (*inputs, pages, q_out, weights))
    return q_out, weights


def prologue_macros(q_rank: int, kv_rank: int) -> Macros:
    return (("Q_RANK", q_rank), ("KV_RANK", kv_rank), ("ROPE", ROPE))


def query_macros(num_heads: int, num_padded_heads: int, head_dim: int, width: int) -> Macros:
    """`width`: of a head of the output."""
    heads = (("HEADS", num_heads), ("PADDED_HEADS", num_padded_heads))
    return (*heads, ("HEAD", head_dim), ("ROPE", ROPE), ("LATENT", width - ROPE))


def absorbed_macros(num_heads: int, num_padded_heads: int, head_dim: int, width: int, token_tiles: int) -> Macros:
    """`width`: of a head of the output."""
    heads = (("HEADS", num_heads), ("PADDED_HEADS", num_padded_heads), ("NOPE", head_dim - ROPE), ("ROPE", ROPE))
    return (*heads, ("LATENT", width - ROPE), ("TOKEN_TILES", token_tiles))


def index_macros(num_heads: int, page_size: int) -> Macros:
    return (("HEADS", num_heads), ("PAGE", page_size))


def _launch(
    source: str, name: str, macros: Macros, grid: tuple[int, int], warps: int, args: tuple[Argument, ...]
) -> None:
    """`args` end with a result, on whose device and current stream the kernel runs."""
    out = args[-1]
    assert isinstance(out, torch.Tensor)
    if out.numel() == 0:
        return
    kernel = load(CUDA / source, (name,), macros, out.device)[name]
    kernel.launch(grid, warps * WARP, 0, args, stream=torch.cuda.current_stream(out.device).cuda_stream)

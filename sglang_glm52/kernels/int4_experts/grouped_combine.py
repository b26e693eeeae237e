"""The last step of the grouped path: a token's slots are weighted and added, in slot order. Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

TOKENS, COLUMNS = 8, 128  # of a program


def combine(
    part: torch.Tensor,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    factor: float,
    out: torch.Tensor,
    first_column: int,
    num_columns: int,
) -> None:
    """Write factor * sum of topk_weight * row over a token's slots with an id >= 0, summed in float32.

    Args:
        part: [num_tokens * topk, num_columns] bf16; rows of slots with a negative id are not read.
        out: [num_tokens, hidden] bf16; `num_columns` columns from `first_column` on are written.
        first_column, num_columns: multiples of 128.
    """
    num_tokens, topk = topk_ids.shape
    num_blocks = num_columns // COLUMNS
    _combine[(triton.cdiv(num_tokens, TOKENS), num_blocks)](
        part,
        topk_weights,
        topk_ids,
        factor,
        out,
        num_tokens,
        first_column // COLUMNS,
        num_blocks,
        HIDDEN=out.shape[1],
        TOPK=topk,
        TOKENS=TOKENS,
        COLUMNS=COLUMNS,
        num_warps=4,
    )


@triton.jit(do_not_specialize=["factor", "num_tokens", "first_block", "num_blocks"])
def _combine(
    part_ptr,
    weights_ptr,
    ids_ptr,
    factor,
    out_ptr,
    num_tokens,
    first_block,
    num_blocks,
    HIDDEN: tl.constexpr,
    TOPK: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    acc = tl.zeros((TOKENS, COLUMNS), tl.float32)
    for j in tl.static_range(TOPK):
        slot = token * TOPK + j
        is_here = tl.load(ids_ptr + slot, mask=token < num_tokens, other=-1) >= 0
        weight = tl.load(weights_ptr + slot, mask=is_here, other=0.0)
        row = tl.load(
            part_ptr + slot[:, None] * (num_blocks * COLUMNS) + column[None, :], mask=is_here[:, None], other=0.0
        )
        acc += weight[:, None] * row.to(tl.float32)
    to = out_ptr + token.to(tl.int64)[:, None] * HIDDEN + first_block * COLUMNS + column[None, :]
    tl.store(to, (factor * acc).to(tl.bfloat16), mask=(token < num_tokens)[:, None])

"""The best positions of each row of indexer scores: exact, ascending, the same bits every time.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_index_topk.py
path: clusters.py (CUDA C++)  its sizes: tuning.py
"""

from __future__ import annotations

import torch

from sglang_glm52.kernels.index_topk.tuning import MAX_TOPK


def index_topk(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    *,
    starts: torch.Tensor | None = None,
    table: torch.Tensor | None = None,
    table_rows: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
) -> torch.Tensor:
    """The positions of the `topk` best scores of each row, in ascending order; of equal scores the first ones.

    Nothing waits for the device and nothing but the result is allocated, so a CUDA graph can hold the call, and be
    replayed with other lengths: what is done follows from them, only the grid from the shapes.

    Args:
        scores: [rows, columns] float32 on a GPU, any row stride. -0 equals 0, and NaN is below all else.
        lengths: [rows] int32, how many of a row's columns count. Others may hold anything.
        starts: [rows] int32, where those columns begin; without it at 0. Positions are counted from there.
        table: [n, any] int32, at least as wide as the longest row: position p becomes table[row, p].
        table_rows: [rows] int32, the rows of `table` to take instead.
        offsets: [rows] int32: position p becomes p + offsets[row].

    Returns:
        A new [rows, topk] int32, -1 where a row has fewer.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.index_topk.clusters import index_topk_clusters  # with it come CUDA's bindings

    return index_topk_clusters(
        scores, lengths, topk, starts=starts, table=table, table_rows=table_rows, offsets=offsets
    )


def check_inputs(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    starts: torch.Tensor | None = None,
    table: torch.Tensor | None = None,
    table_rows: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
) -> None:
    """Raise ValueError, naming the argument, unless all are as `index_topk` describes them. Reads no values."""
    if not 1 <= topk <= MAX_TOPK:
        raise ValueError(f"topk is {topk}; expected 1 to {MAX_TOPK}")
    _check_matrix("scores", scores, torch.float32)
    if not scores.is_cuda:
        raise ValueError(f"scores is on {scores.device}; expected a GPU (ref.py runs on a CPU)")
    rows = scores.shape[0]
    for name, each in {"lengths": lengths, "starts": starts, "table_rows": table_rows, "offsets": offsets}.items():
        if each is None:
            continue
        if tuple(each.shape) != (rows,) or each.dtype != torch.int32:
            raise ValueError(f"{name} is {each.dtype} {tuple(each.shape)}; expected {torch.int32} {(rows,)}")
        if not each.is_contiguous():
            raise ValueError(f"{name} has strides {each.stride()}; expected a contiguous tensor")
    if table is not None:
        _check_matrix("table", table, torch.int32)
        if table_rows is None and table.shape[0] < rows:
            raise ValueError(f"table has {table.shape[0]} rows for {rows} of scores; give table_rows, or one for each")
        if offsets is not None:
            raise ValueError("offsets are given beside table; expected one of them at most")
    elif table_rows is not None:
        raise ValueError("table_rows is given without table")
    for name, each in {
        "lengths": lengths,
        "starts": starts,
        "table": table,
        "table_rows": table_rows,
        "offsets": offsets,
    }.items():
        if each is not None and each.device != scores.device:
            raise ValueError(f"{name} is on {each.device}; expected {scores.device}, where the scores are")


def _check_matrix(name: str, matrix: torch.Tensor, dtype: torch.dtype) -> None:
    if matrix.dim() != 2 or matrix.dtype != dtype:
        raise ValueError(f"{name} is {matrix.dtype} {tuple(matrix.shape)}; expected {dtype} [rows, columns]")
    if matrix.shape[1] > 1 and matrix.stride(1) != 1:
        raise ValueError(f"{name} has strides {matrix.stride()}; expected rows without gaps between their elements")

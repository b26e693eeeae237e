"""Lengths, slots and pages of each row of a batch in one launch, from lengths that only the device knows.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_request_tables.py
path: fused.py (Triton)
"""

from __future__ import annotations

import torch

from sglang_glm52.kernels.request_tables.tables import RequestTables


def request_tables(
    out: RequestTables,
    pool_table: torch.Tensor,
    pool_rows: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    first: int,
    index_topk: int,
    page_size: int,
) -> None:
    """Write `out` for rows j = 0, 1, ... of each request, row j with seq_len + `first` + j keys, but at least one.

    Nothing waits for the device or allocates, and shapes depend on no value, so a CUDA graph can record it.

    Args:
        pool_table: [num_pool_rows, max_positions] int32, the slot of each position of each request in the pool.
        pool_rows: [num_requests] int64. seq_lens: [num_requests] int32 or int64.
        first: 1 where seq_len leaves the batch's own tokens out; 0 for one row that it counts; 1 - rows where it
            counts them all.

    Raises:
        ValueError: shapes, dtypes or strides are not as described.
    """
    from sglang_glm52.kernels.request_tables.fused import request_tables_fused  # with it comes Triton: not on a CPU

    request_tables_fused(out, pool_table, pool_rows, seq_lens, first=first, index_topk=index_topk, page_size=page_size)

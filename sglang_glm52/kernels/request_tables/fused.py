"""All tables in one kernel: some programs a request copy its slots, and one more works out all lengths. Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from sglang_glm52.kernels.request_tables.tables import RequestTables

BLOCK = 1024  # positions that a program copies at a time
MAX_PROGRAMS, WANTED_PROGRAMS = 64, 512  # of a request; of a batch, some for each multiprocessor


def request_tables_fused(
    out: RequestTables,
    pool_table: torch.Tensor,
    pool_rows: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    first: int,
    index_topk: int,
    page_size: int,
) -> None:
    """See `kernel.py`."""
    _check(out, pool_table, pool_rows, seq_lens)
    num_requests, num_rows = out.num_requests, out.num_rows
    num_programs = min(max(WANTED_PROGRAMS // num_requests, 1), MAX_PROGRAMS)
    _tables[(num_requests + 1, num_programs)](
        seq_lens,
        pool_rows,
        pool_table,
        pool_table.stride(0),
        out.lengths,
        out.ends,
        out.row_lengths,
        out.kept_lengths,
        out.kept_ends,
        out.slots,
        out.slots.stride(0),
        out.pages,
        out.pages.stride(0),
        num_requests,
        num_programs,
        first,
        ROWS=num_rows // num_requests,
        TOPK=index_topk,
        PAGE=page_size,
        ALL_ROWS=triton.next_power_of_2(num_rows),
        BLOCK=BLOCK,
        num_warps=4,
    )


def _check(out: RequestTables, pool_table: torch.Tensor, pool_rows: torch.Tensor, seq_lens: torch.Tensor) -> None:
    num_requests, num_rows = out.num_requests, out.num_rows
    if not num_requests or num_rows % num_requests:
        raise ValueError(f"{num_rows} rows for {num_requests} requests; expected as many for each, and one at least")
    shapes = {
        "ends": (num_requests + 1,),
        "kept_lengths": (num_rows,),
        "kept_ends": (num_rows + 1,),
        "slots": (num_rows, out.slots.shape[1]),
        "pages": (num_rows, out.pages.shape[1]),
    }
    for name, shape in shapes.items():
        if getattr(out, name).shape != shape:
            raise ValueError(f"{name} is {tuple(getattr(out, name).shape)}; expected {shape}")
    tensors = {name: getattr(out, name) for name in ("lengths", "row_lengths", *shapes)} | {"pool_table": pool_table}
    for name, tensor in tensors.items():
        if tensor.dtype != torch.int32 or tensor.stride(-1) != 1:
            raise ValueError(
                f"{name} is {tensor.dtype} with strides {tensor.stride()}; expected int32, rows contiguous"
            )
    for name, tensor in {"pool_rows": pool_rows, "seq_lens": seq_lens}.items():
        if tensor.shape != (num_requests,) or not tensor.is_contiguous():
            raise ValueError(f"{name} is {tuple(tensor.shape)}; expected ({num_requests},), contiguous")


@triton.jit(do_not_specialize=["num_requests", "num_programs", "first"])  # one compilation for all batches of a kind
def _tables(
    seq_lens_ptr,
    pool_rows_ptr,
    pool_ptr,
    pool_stride,
    lengths_ptr,
    ends_ptr,
    row_lengths_ptr,
    kept_lengths_ptr,
    kept_ends_ptr,
    slots_ptr,
    slots_stride,
    pages_ptr,
    pages_stride,
    num_requests,
    num_programs,
    first,
    ROWS: tl.constexpr,
    TOPK: tl.constexpr,
    PAGE: tl.constexpr,
    ALL_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    request, program = tl.program_id(0), tl.program_id(1)
    if request < num_requests:
        length = tl.load(seq_lens_ptr + request).to(tl.int32) + first + ROWS - 1
        length = tl.maximum(length, 1)
        pool_ptr += tl.load(pool_rows_ptr + request).to(tl.int64) * pool_stride
        slots_ptr += request.to(tl.int64) * ROWS * slots_stride
        pages_ptr += request.to(tl.int64) * ROWS * pages_stride
        for start in range(program * BLOCK, length, num_programs * BLOCK):
            position = start + tl.arange(0, BLOCK)
            slot = tl.load(pool_ptr + position, position < length, other=0)
            for row in tl.static_range(ROWS):
                tl.store(slots_ptr + row * slots_stride + position, slot, position < length)
        num_pages = (length + PAGE - 1) // PAGE
        for start in range(program * BLOCK, num_pages, num_programs * BLOCK):
            page = start + tl.arange(0, BLOCK)
            slot = tl.load(pool_ptr + page * PAGE, page < num_pages, other=0)
            for row in tl.static_range(ROWS):
                tl.store(pages_ptr + row * pages_stride + page, slot // PAGE, page < num_pages)
    elif program == 0:
        index = tl.arange(0, ALL_ROWS)
        is_row, is_request = index < num_requests * ROWS, index < num_requests
        length = tl.load(seq_lens_ptr + index // ROWS, is_row, other=0).to(tl.int32) + first + index % ROWS
        length = tl.maximum(length, 1)
        kept = tl.where(is_row, tl.minimum(length, TOPK), 0)
        tl.store(row_lengths_ptr + index, length, is_row)
        tl.store(kept_lengths_ptr + index, kept, is_row)
        tl.store(kept_ends_ptr + 1 + index, tl.cumsum(kept, 0), is_row)
        length = tl.load(seq_lens_ptr + index, is_request, other=0).to(tl.int32) + first + ROWS - 1
        length = tl.where(is_request, tl.maximum(length, 1), 0)
        tl.store(lengths_ptr + index, length, is_request)
        tl.store(ends_ptr + 1 + index, tl.cumsum(length, 0), is_request)

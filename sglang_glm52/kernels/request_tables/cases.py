"""Batches for tests and benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sglang_glm52.kernels.request_tables.tables import RequestTables

PAGE, TOPK, UNWRITTEN = 64, 2048, -7


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op."""

    seq_lens: tuple[int, ...]
    rows: int
    first: int
    why: str
    max_length: int = 8192
    dtype: torch.dtype = torch.int32
    timed: bool = False

    def __str__(self) -> str:
        lengths = "-".join(map(str, self.seq_lens[:4])) + ("-etc" if len(self.seq_lens) > 4 else "")
        return f"{lengths} {self.rows} rows from {self.first}"

    @property
    def shares_lengths(self) -> bool:
        """A batch of one row a request keeps `row_lengths` in `lengths`, as the host does for decode steps."""
        return self.rows == 1


CASES = (
    Case((4096,), 2, 1, "verify of one request, 1-1-2", timed=True),
    Case((4099,), 2, -1, "the draft-extend after it", timed=True),
    Case((63, 64, 65, 1, 0), 4, 1, "around the end of a page"),
    Case((1, 5000, 4), 4, -3, "a padded row, which counts no token"),
    Case((2047, 2048, 2049), 1, 0, "draft steps around the number of selected positions"),
    Case((2045, 8186), 6, 1, "the last row fills the table"),
    Case((131072,), 4, 1, "more blocks than programs", max_length=131072 + 64, timed=True),
    Case(tuple(range(37, 37 + 37 * 41, 41)), 4, 1, "many requests", dtype=torch.int64),
)


def make_inputs(case: Case, seed: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pool_table, pool_rows and seq_lens: requests lie in pages of the pool that follow no order."""
    generator = torch.Generator().manual_seed(seed)
    num_requests, num_pages = len(case.seq_lens), -(-case.max_length // PAGE)
    num_pool_rows = num_requests + 3
    pages = torch.randperm(num_pool_rows * num_pages, generator=generator).view(num_pool_rows, num_pages)
    table = (pages.unsqueeze(2) * PAGE + torch.arange(PAGE)).flatten(1).int()
    pool_rows = torch.randperm(num_pool_rows, generator=generator)[:num_requests]
    return table.to(device), pool_rows.to(device), torch.tensor(case.seq_lens, dtype=case.dtype, device=device)


def make_tables(case: Case, device: str) -> RequestTables:
    """Filled with UNWRITTEN; `slots` and `pages` are the first rows of larger tensors."""
    num_requests, num_rows = len(case.seq_lens), len(case.seq_lens) * case.rows

    def unwritten(*shape: int) -> torch.Tensor:
        return torch.full(shape, UNWRITTEN, dtype=torch.int32, device=device)

    lengths = unwritten(num_requests)
    return RequestTables(
        lengths=lengths,
        ends=unwritten(num_requests + 1),
        row_lengths=lengths if case.shares_lengths else unwritten(num_rows),
        kept_lengths=unwritten(num_rows),
        kept_ends=unwritten(num_rows + 1),
        slots=unwritten(num_rows + 2, case.max_length + 6)[:num_rows],
        pages=unwritten(num_rows + 2, case.max_length // PAGE + 1)[:num_rows],
    )

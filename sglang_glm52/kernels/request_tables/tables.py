"""What the operation writes."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTables:
    """Tensors that attention and indexer read, all int32. Every request has the same number of rows, one a token.

    Of `slots` and `pages` only what a request's length covers is written. Element 0 of both `ends` is left alone.
    """

    lengths: torch.Tensor  # [num_requests], keys of the request, those of its rows included
    ends: torch.Tensor  # [num_requests + 1], running sums of `lengths` from element 1 on
    row_lengths: torch.Tensor  # [num_rows], keys up to the row's own; may be `lengths` where a request has one row
    kept_lengths: torch.Tensor  # [num_rows], what selection leaves of them
    kept_ends: torch.Tensor  # [num_rows + 1], running sums of `kept_lengths` from element 1 on
    slots: torch.Tensor  # [num_rows, max_length], the slot in the KV pool of each key
    pages: torch.Tensor  # [num_rows, max_length / page_size], the page of each `page_size` keys

    @property
    def num_requests(self) -> int:
        return len(self.lengths)

    @property
    def num_rows(self) -> int:
        return len(self.row_lengths)

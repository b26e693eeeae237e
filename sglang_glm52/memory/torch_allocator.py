"""Paged slot allocation in plain torch, for the CPU engine with pages of more than one token."""

from __future__ import annotations

import torch
from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator


def new_slots(
    prefix_lens: torch.Tensor,
    seq_lens: torch.Tensor,
    last_loc: torch.Tensor,
    free_pages: torch.Tensor,
    page_size: int,
) -> tuple[torch.Tensor, int] | None:
    """Slots for positions [prefix, seq) of each request: the rest of its last page first, then free pages in order.

    Args:
        prefix_lens, seq_lens: [num_requests] int64, positions before and after.
        last_loc: [num_requests] int64, slot of position prefix - 1; anything where the prefix ends a page.
        free_pages: [num_free] int64.

    Returns:
        Slots [sum(seq - prefix)] int64, requests one after the other, and the number of pages taken; None if
        there are not enough.
    """
    first_new_page = -(-prefix_lens // page_size)
    pages_taken = -(-seq_lens // page_size) - first_new_page
    total = int(pages_taken.sum())
    if total > len(free_pages):
        return None
    counts = seq_lens - prefix_lens
    request = torch.repeat_interleave(torch.arange(len(counts)), counts)
    offset = torch.arange(len(request)) - (counts.cumsum(0) - counts)[request]
    position = prefix_lens[request] + offset
    nth_new_page = position // page_size - first_new_page[request]
    slots = last_loc[request] + 1 + offset
    is_new = nth_new_page >= 0
    taken_before = (pages_taken.cumsum(0) - pages_taken)[request]
    pages = free_pages[(taken_before + nth_new_page)[is_new]]
    slots[is_new] = pages * page_size + position[is_new] % page_size
    return slots, total


class TorchPagedAllocator(PagedTokenToKVPoolAllocator):
    """The host's paged allocator with its two Triton kernels replaced."""

    def alloc_extend(
        self,
        prefix_lens: torch.Tensor,
        prefix_lens_cpu: torch.Tensor,
        seq_lens: torch.Tensor,
        seq_lens_cpu: torch.Tensor,
        last_loc: torch.Tensor,
        extend_num_tokens: int,
        num_new_pages: int | None = None,
    ) -> torch.Tensor | None:
        """Slots [extend_num_tokens] int64 for a prefill batch, None if the pool is too full."""
        return self._take(prefix_lens, seq_lens, last_loc)

    def alloc_decode(
        self, seq_lens: torch.Tensor, seq_lens_cpu: torch.Tensor, last_loc: torch.Tensor
    ) -> torch.Tensor | None:
        """One slot a request, [num_requests] int64, for position seq_len - 1; None if the pool is too full."""
        return self._take(seq_lens - 1, seq_lens, last_loc)

    def _take(self, prefix_lens: torch.Tensor, seq_lens: torch.Tensor, last_loc: torch.Tensor) -> torch.Tensor | None:
        lens = prefix_lens.long(), seq_lens.long(), last_loc.long()
        found = new_slots(*lens, self.free_pages, self.page_size)
        if found is None and self.need_sort:
            self.merge_and_sort_free()
            found = new_slots(*lens, self.free_pages, self.page_size)
        if found is None:
            return None
        slots, num_pages = found
        self.free_pages = self.free_pages[num_pages:]
        return slots

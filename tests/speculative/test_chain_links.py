"""The kept layout of chains against the one that is made anew."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.speculative.chain import lay_out
from sglang_glm52.speculative.chain_links import lay_out_again


@pytest.mark.parametrize(("num_requests", "num_drafts"), [(1, 1), (3, 3), (2, 5)])
def test_every_round_is_laid_out_alike(num_requests: int, num_drafts: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for bonus_dtype in (torch.int32, torch.int64):
        bonus = torch.randint(100, (num_requests,), generator=generator, dtype=bonus_dtype)
        drafts = torch.randint(100, (num_requests, num_drafts), generator=generator)
        lengths = torch.randint(1, 9000, (num_requests,), generator=generator)
        got, want = lay_out_again(bonus, drafts, lengths), lay_out(bonus, drafts, lengths)
        for one, other in zip(got, want, strict=True):
            assert one.dtype == other.dtype == torch.int64
            assert torch.equal(one, other)

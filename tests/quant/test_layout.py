"""Scales in the kernels' order."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.quant.layout import group_major, row_major


@pytest.mark.parametrize("shape", [(3, 512, 48), (2, 256, 1), (1, 1, 2), (0, 256, 2)])
def test_scales_go_there_and_back(shape):
    scale = torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    moved = group_major(scale.float())  # as loaded: float32 that holds bf16 numbers
    assert moved.shape == (shape[0], shape[2], shape[1]) and moved.is_contiguous() and moved.dtype == torch.bfloat16
    assert torch.equal(row_major(moved), scale)


def test_the_rows_of_a_group_lie_side_by_side():
    scale = torch.arange(6.0).view(1, 3, 2)  # row r has 2r and 2r + 1
    assert group_major(scale).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_scales_of_one_matrix_are_refused():
    with pytest.raises(ValueError, match=r"three dimensions, got \(4, 2\)"):
        group_major(torch.ones(4, 2))

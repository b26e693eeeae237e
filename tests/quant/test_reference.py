"""The reference of int4 experts: its FP8 rounding and its sums."""

from __future__ import annotations

import torch

from sglang_glm52.formats.int4_group import dequantize_int4_group, quantize_int4_group
from sglang_glm52.quant.reference import int4_experts, quantize_rows

HIDDEN, INNER = 256, 128


def rounded_rows(x: torch.Tensor) -> torch.Tensor:
    q, scale = quantize_rows(x)
    return q * scale


def test_each_row_is_rounded_with_its_own_scale():
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-6], [1.0], [1e6], [0.0]])
    rounded = rounded_rows(x)
    error = (rounded - x).abs()
    largest = x.abs().amax(-1, keepdim=True)
    assert (error <= x.abs() * 2**-4 + largest * 2**-9 / 448).all() and (error[:3].amax(-1) > 0).all()
    torch.testing.assert_close(rounded.abs().amax(-1, keepdim=True), largest)  # 448 steps of its scale
    assert torch.equal(rounded[3], x[3])


def test_experts_are_summed_by_weight_and_missing_ones_left_out():
    generator = torch.Generator().manual_seed(1)
    w13 = [quantize_int4_group(torch.randn(2 * INNER, HIDDEN, generator=generator) * HIDDEN**-0.5) for _ in range(3)]
    w2 = [quantize_int4_group(torch.randn(HIDDEN, INNER, generator=generator) * INNER**-0.5) for _ in range(3)]
    x, ids = torch.randn(2, HIDDEN, generator=generator), torch.tensor([[2, 0], [1, -1]])
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5]])

    def expert(i: int, row: torch.Tensor) -> torch.Tensor:
        gate, up = (dequantize_int4_group(*w13[i]) @ rounded_rows(row[None])[0]).chunk(2)
        inner = rounded_rows((gate * gate.sigmoid() * up)[None])[0]
        return dequantize_int4_group(*w2[i]) @ inner

    want = torch.stack([0.25 * expert(2, x[0]) + 0.75 * expert(0, x[0]), 0.5 * expert(1, x[1])])
    torch.testing.assert_close(int4_experts(x, w13, w2, weights, ids), want, rtol=1e-3, atol=1e-4)

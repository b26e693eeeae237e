from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_glm52.formats.fp8_block import dequantize_fp8_block, quantize_fp8_block

E4M3_SPACING = 2**-3  # e4m3 has 3 mantissa bits: neighbours differ by at most an eighth of their value
E4M3_SMALLEST = 2**-9


@pytest.mark.parametrize("shape", [(1, 1), (128, 128), (129, 127), (300, 257), (64, 576), (0, 128), (3, 0)])
def test_shapes_and_dtypes(shape):
    q, scale = quantize_fp8_block(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert q.shape == shape and q.dtype == torch.float8_e4m3fn
    assert scale.shape == (-(-shape[0] // 128), -(-shape[1] // 128)) and scale.dtype == torch.float32
    assert dequantize_fp8_block(q, scale).shape == shape


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 260), cols=st.integers(1, 260), seed=st.integers(0, 2**31), log_size=st.integers(-100, 100))
def test_every_value_is_within_half_a_step(rows, cols, seed, log_size):
    weight = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed)) * 2.0**log_size
    q, scale = quantize_fp8_block(weight)
    largest = torch.nn.functional.max_pool2d(weight.abs()[None], 128, ceil_mode=True)[0]
    step = torch.nn.functional.interpolate(largest[None, None], scale_factor=128.0)[0, 0][:rows, :cols] / 448
    bound = torch.maximum(weight.abs() * E4M3_SPACING, step * E4M3_SMALLEST) / 2
    assert ((dequantize_fp8_block(q, scale) - weight).abs() <= bound * 1.0001).all()


def test_the_largest_value_of_a_block_is_exact():
    weight = torch.zeros(128, 256)
    weight[5, 7], weight[100, 130] = -3.0, 1000.0
    q, scale = quantize_fp8_block(weight)
    assert torch.equal(scale, torch.tensor([[3.0, 1000.0]]) / 448)
    assert q[5, 7].float() == -448 and q[100, 130].float() == 448


def test_a_scale_belongs_to_its_own_block_alone():
    weight = torch.ones(256, 256)
    weight[128:, :128] = 1e4
    q, scale = quantize_fp8_block(weight)
    assert torch.allclose(scale * 448, torch.tensor([[1.0, 1.0], [1e4, 1.0]]))
    assert torch.allclose(dequantize_fp8_block(q, scale), weight)


def test_a_zero_block_stays_zero():
    weight = torch.zeros(130, 128)
    weight[129] = 1.0
    q, scale = quantize_fp8_block(weight)
    assert scale[0, 0] > 0 and torch.isfinite(scale).all()
    assert torch.equal(dequantize_fp8_block(q, scale)[:128], torch.zeros(128, 128))


def test_quantised_values_survive_a_second_round_bit_by_bit():
    q, scale = quantize_fp8_block(torch.randn(200, 300, generator=torch.Generator().manual_seed(0)))
    again, scale_again = quantize_fp8_block(dequantize_fp8_block(q, scale))
    assert torch.equal(q.view(torch.uint8), again.view(torch.uint8)) and torch.equal(scale, scale_again)


def test_bf16_and_strided_input_are_taken():
    weight = torch.randn(256, 384, generator=torch.Generator().manual_seed(0)).bfloat16()
    q, scale = quantize_fp8_block(weight.t())
    contiguous_q, contiguous_scale = quantize_fp8_block(weight.t().contiguous())
    assert torch.equal(q.float(), contiguous_q.float()) and torch.equal(scale, contiguous_scale)


def test_dequantising_multiplies_and_returns_the_dtype_asked_for():
    q = torch.tensor([[2.0]]).to(torch.float8_e4m3fn)
    out = dequantize_fp8_block(q, torch.tensor([[0.25]]), torch.bfloat16)
    assert out.dtype == torch.bfloat16 and out.item() == 0.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_no_scale_can_hold_are_refused(bad):
    weight = torch.ones(4, 4)
    weight[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize_fp8_block(weight)


def test_only_a_matrix_has_blocks():
    with pytest.raises(ValueError, match=r"matrix \[out, in\], got shape \(2, 3, 4\)"):
        quantize_fp8_block(torch.ones(2, 3, 4))


def test_scales_of_another_matrix_are_refused():
    q, _ = quantize_fp8_block(torch.ones(130, 130))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), got \(2, 1\)"):
        dequantize_fp8_block(q, torch.ones(2, 1))

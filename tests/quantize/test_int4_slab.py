"""The fast way through all methods at once, held to the plain functions of the format."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.formats import int4_group
from sglang_glm52.formats.int4_group import METHODS, dequantize_int4_group, quantize_int4_group
from sglang_glm52.quantize.int4_slab import errors_of, quantize_int4_slab

SIZES = {"small": 1e-30, "usual": 0.02, "one": 1.0, "large": 1e30, "largest": 3e38, "below normal": 1e-40}


def weight(size: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    values = torch.randn(37, 640, generator=torch.Generator().manual_seed(0)).clamp_(-1, 1) * size
    values[3, 128:256] = 0
    values[5] *= 1e-3
    return values.to(dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_bytes_are_those_of_the_format(method, size, monkeypatch):
    monkeypatch.setattr(int4_group, "_CPU_CHUNK", 640 * 7)
    for dtype in (torch.float32, torch.bfloat16):
        found, expected = (
            quantize_int4_slab(weight(size, dtype), method),
            quantize_int4_group(weight(size, dtype), method),
        )
        assert torch.equal(found.packed, expected.packed) and torch.equal(found.scale, expected.scale)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_errors_are_those_of_float64(size):
    values = weight(size)
    errors = errors_of(quantize_int4_slab(values, "mse").sums)
    for method in METHODS:
        difference = values - dequantize_int4_group(*quantize_int4_group(values, method))
        assert errors[method].squared_error == pytest.approx(
            difference.double().square().sum().item(), rel=1e-12, abs=0
        )
        assert errors[method].squared_weight == pytest.approx(values.double().square().sum().item(), rel=1e-12, abs=0)


def test_a_weight_of_zeros():
    errors = errors_of(quantize_int4_slab(torch.zeros(4, 256), "mse").sums)
    assert {error.relative for error in errors.values()} == {0.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row", [0, 36])
def test_values_that_are_not_finite_are_refused(value, row, monkeypatch):
    monkeypatch.setattr(int4_group, "_CPU_CHUNK", 640 * 7)
    values = weight(1.0)
    values[row, 77] = value
    slab = quantize_int4_slab(values, "mse")
    with pytest.raises(ValueError, match="NaN or values beyond float32's range"):
        errors_of(slab.sums)


def test_what_is_no_matrix_of_groups_is_refused():
    with pytest.raises(ValueError, match="multiple of 128"):
        quantize_int4_slab(torch.zeros(4, 130), "mse")

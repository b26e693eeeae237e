from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sglang_glm52.formats import int4_error, int4_group
from sglang_glm52.formats.int4_group import (
    METHODS,
    WeightError,
    dequantize_int4_group,
    mse,
    pack_int4,
    quantize_int4_group,
    unpack_int4,
    weight_error,
)

FLOAT32_MAX = torch.finfo(torch.float32).max
BF16_MAX = torch.finfo(torch.bfloat16).max
TINY = torch.finfo(torch.float32).tiny
ALL_BYTES = torch.arange(-128, 128, dtype=torch.int8)
# Rows and groups of a matrix, its seed, its size and its centre: a shifted group is one-sided.
MATRICES = dict(
    rows=st.integers(1, 5),
    groups=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    log_size=st.integers(-120, 110),
    centre=st.sampled_from([0.0, 1.0, -3.0]),
)

each_method = pytest.mark.parametrize("method", METHODS)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def matrix(rows: int, groups: int, seed: int, log_size: int, centre: float) -> torch.Tensor:
    return (noise(rows, groups * 128, seed=seed) + centre) * 2.0**log_size


def by_group(values: torch.Tensor) -> torch.Tensor:
    return values.unflatten(1, (-1, 128))


def group_errors(weight: torch.Tensor, method: str) -> torch.Tensor:
    """Squared error of each group in float64."""
    dequantised = dequantize_int4_group(*quantize_int4_group(weight, method), torch.float64)
    return by_group(weight.double() - dequantised).square().sum(-1)


def decode(packed: bytes, scale: list[float]) -> list[float]:
    """One row by the text of the format: low nibble first, two's complement, a scale for each 128 inputs."""
    values = []
    for byte in packed:
        for nibble in (byte % 16, byte // 16):
            q = nibble - 16 if nibble >= 8 else nibble
            values.append(q * scale[len(values) // 128])
    return values


def test_every_byte_survives_unpacking_and_packing():
    assert torch.equal(pack_int4(unpack_int4(ALL_BYTES)), ALL_BYTES)


def test_every_pair_of_values_survives_packing_and_unpacking():
    pairs = torch.cartesian_prod(*[torch.arange(-8, 8, dtype=torch.int8)] * 2)
    packed = pack_int4(pairs)
    assert packed.dtype == torch.int8 and packed.shape == (256, 1) and len(packed.unique()) == 256
    assert torch.equal(unpack_int4(packed), pairs)


def test_the_even_element_is_the_low_nibble():
    assert pack_int4(torch.tensor([1, -2, -8, 7], dtype=torch.int8)).view(torch.uint8).tolist() == [0xE1, 0x78]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (2, 3, 6)])
def test_any_number_of_dimensions_is_packed(shape):
    q = torch.randint(-8, 8, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    assert pack_int4(q).shape == (*shape[:-1], shape[-1] // 2)
    assert torch.equal(unpack_int4(pack_int4(q)), q)


def test_strided_values_are_packed():
    q = torch.randint(-8, 8, (6, 10), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pack_int4(q.t()[:, 2:]), pack_int4(q.t()[:, 2:].contiguous()))


def test_identity_activations_give_the_decoded_weight():
    """One-hot rows times the weight show where each nibble and each scale belongs; no tolerance."""
    packed = torch.stack((ALL_BYTES, ALL_BYTES.flip(0)))  # [2, 256]: 512 inputs, each byte in both rows
    scale = torch.tensor([[0.5, 3.0, -1.0, 2.0], [0.25, 1.0, 7.0, 0.125]])
    out = torch.eye(512) @ dequantize_int4_group(packed, scale).t()
    rows = [decode(row.numpy().tobytes(), scales) for row, scales in zip(packed, scale.tolist(), strict=True)]
    assert torch.equal(out, torch.tensor(rows).t())


@each_method
@pytest.mark.parametrize("shape", [(1, 128), (3, 256), (131, 384), (0, 128), (3, 0), (2, 6144), (2, 2048)])
def test_shapes_and_dtypes(shape, method):
    packed, scale = quantize_int4_group(noise(*shape), method)
    assert packed.shape == (shape[0], shape[1] // 2) and packed.dtype == torch.int8
    assert scale.shape == (shape[0], shape[1] // 128) and scale.dtype == torch.bfloat16
    assert dequantize_int4_group(packed, scale).shape == shape


@each_method
@pytest.mark.parametrize("lowest, highest", [(-8, 7), (-7, 7), (-8, 3), (-2, 7), (0, 7), (-8, 0)])
def test_values_on_the_grid_survive(lowest, highest, method):
    q = torch.randint(lowest, highest + 1, (4, 256), generator=torch.Generator().manual_seed(0))
    q[:, ::128], q[:, 127::128] = lowest, highest
    scale = 2.0 ** torch.tensor([[-3, 0], [5, -120], [100, 20], [-7, -7]])
    weight = (by_group(q) * scale[..., None]).flatten(1)
    assert torch.equal(dequantize_int4_group(*quantize_int4_group(weight, method)), weight)


@each_method
@settings(max_examples=30, deadline=None)
@given(**MATRICES)
def test_a_second_round_changes_nothing(method, **of):
    once = dequantize_int4_group(*quantize_int4_group(matrix(**of), method))
    assert torch.equal(dequantize_int4_group(*quantize_int4_group(once, method)), once)


@settings(max_examples=50, deadline=None)
@given(**MATRICES)
def test_rtn_is_within_half_a_step(**of):
    """The scale rounded to bf16 moves the ends by 7 / 256 of a step, far less than the half a step they may move."""
    weight = matrix(**of)
    packed, scale = quantize_int4_group(weight, "rtn")
    assert (scale > 0).all()
    error = by_group(weight - dequantize_int4_group(packed, scale)).abs()
    assert (error <= scale.float()[..., None] * 0.500001).all()


@settings(max_examples=50, deadline=None)
@given(**MATRICES)
def test_the_scale_of_rtn_is_the_smallest_that_clips_nothing(**of):
    groups = by_group(matrix(**of))
    expected = torch.maximum(groups.amax(-1) / 7, groups.amin(-1) / -8).clamp_min(TINY).bfloat16()
    assert torch.equal(quantize_int4_group(groups.flatten(1), "rtn").scale, expected)


@settings(max_examples=50, deadline=None)
@given(**MATRICES)
def test_mse_is_never_worse_than_rtn(**of):
    weight = matrix(**of)
    worst = group_errors(weight, "rtn")
    assert (group_errors(weight, "mse") <= worst * (1 + 1e-5)).all()  # the search adds 128 squares in float32


@settings(max_examples=20, deadline=None)
@given(**MATRICES)
def test_mse_takes_the_best_of_its_scales(**of):
    weight = matrix(**of)
    groups = by_group(weight).double()
    above, below = groups.amax(-1), -groups.amin(-1)
    tightest = torch.where(above > below, -torch.maximum(below / 7, above / 8), torch.maximum(above / 7, below / 8))
    errors = []
    for scale in (torch.maximum(above / 7, below / 8), *(tightest * factor for factor in int4_group.SHRINK)):
        rounded = scale.float().bfloat16().double()[..., None]
        q = (groups / rounded).round().clamp(-8, 7)
        errors.append((groups - q * rounded).square().sum(-1))
    # A scale halfway between two bf16 can fall either way; the error then differs by a fraction of a percent.
    assert torch.allclose(group_errors(weight, "mse"), torch.stack(errors).amin(0), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", int4_error.WEIGHTS)
def test_mse_beats_rtn_by_a_tenth_and_leaves_little_to_gain(kind):
    weight = int4_error.WEIGHTS[kind](torch.Generator().manual_seed(1))
    by_rtn, by_mse = (int4_error.error_percent(weight, method) for method in ("rtn", "mse"))
    finest = int4_error.error_percent(weight, partial(mse, shrink=torch.linspace(1, 0.7, 31).tolist()))
    assert by_mse < 0.9 * by_rtn
    assert finest <= by_mse < 1.005 * finest


@each_method
def test_a_rows_result_does_not_depend_on_other_rows(method, monkeypatch):
    weight = torch.cat((noise(37, 640), 1e3 * noise(3, 640, seed=1), torch.zeros(1, 640)))
    whole = quantize_int4_group(weight, method)
    rows = [quantize_int4_group(row[None], method) for row in weight]
    monkeypatch.setattr(int4_group, "_CPU_CHUNK", 640 * 7)
    for other in (map(torch.cat, zip(*rows, strict=True)), quantize_int4_group(weight, method)):
        assert all(map(torch.equal, other, whole))


@each_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_every_float_dtype_is_taken_and_computed_in_float32(dtype, method):
    weight = noise(4, 256).to(dtype)
    assert all(map(torch.equal, quantize_int4_group(weight, method), quantize_int4_group(weight.float(), method)))


@each_method
def test_strided_input_is_taken_and_left_alone(method):
    weight = noise(256, 7)
    before = weight.clone()
    strided, contiguous = (quantize_int4_group(w, method) for w in (weight.t(), weight.t().contiguous()))
    assert all(map(torch.equal, strided, contiguous)) and torch.equal(weight, before)


@each_method
def test_a_group_of_zeros_has_scale_1(method):
    weight = torch.cat((torch.zeros(2, 128), torch.full((2, 128), -0.0), noise(2, 128)), dim=1)
    packed, scale = quantize_int4_group(weight, method)
    assert torch.equal(scale[:, :2], torch.ones(2, 2)) and not packed[:, :128].any()


@each_method
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), log_size=st.integers(-149, -115))
@example(seed=0, log_size=-149)
def test_denormal_weights_have_a_normal_scale_and_lose_no_more_than_others(seed, log_size, method):
    weight = noise(2, 128, seed=seed) * 2.0**log_size
    packed, scale = quantize_int4_group(weight, method)
    assert (scale.float().abs() >= TINY).all()
    largest = weight.double().abs().amax(1, keepdim=True)  # mse clips up to a fifth of it
    assert ((weight.double() - dequantize_int4_group(packed, scale)).abs() <= (largest / 4.9).clamp_min(TINY / 2)).all()


@each_method
@pytest.mark.parametrize("size", [1e38, -1e38, 3e38, BF16_MAX, -BF16_MAX, FLOAT32_MAX, -FLOAT32_MAX])
def test_the_largest_weights_stay_finite(size, method):
    weight = noise(2, 256).clamp(-1, 1) * 0.4 * abs(size)
    weight[0, 3], weight[1, 200] = size, 0.9 * size
    dequantised = dequantize_int4_group(*quantize_int4_group(weight, method))
    assert torch.isfinite(dequantised).all()
    assert dequantised[0, 3] / size == pytest.approx(1, abs=0.2)
    assert ((weight.double() - dequantised).abs() <= abs(size) / 5).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_values_that_no_scale_can_hold_are_refused(bad):
    weight = torch.ones(3, 256, dtype=torch.float64)
    weight[1, 200] = bad
    with pytest.raises(ValueError, match="NaN or values beyond float32's range; repair the checkpoint"):
        quantize_int4_group(weight)


@pytest.mark.parametrize(
    "weight, message",
    [
        (torch.ones(128), r"matrix \[out, in\], got shape \(128,\)"),
        (torch.ones(2, 2, 128), r"matrix \[out, in\], got shape \(2, 2, 128\)"),
        (torch.ones(4, 192), "multiple of 128, got 192; keep this tensor unquantised"),
        (torch.ones(4, 64, dtype=torch.int8), "float weight, got torch.int8; is it quantised already"),
    ],
)
def test_other_weights_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        quantize_int4_group(weight)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="unknown int4 method 'gptq'; choose one of rtn, mse"):
        quantize_int4_group(torch.ones(1, 128), "gptq")


def test_a_method_of_ones_own_is_taken():
    def fixed(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return groups.clamp(-8, 7).trunc(), torch.full(groups.shape[:-1], 0.5)

    packed, scale = quantize_int4_group(3 * noise(3, 256), fixed)
    assert torch.equal(dequantize_int4_group(packed, scale), (3 * noise(3, 256)).clamp(-8, 7).trunc() / 2)


@pytest.mark.parametrize("bad", [torch.ones(4, 3, dtype=torch.int8), torch.ones(4, 2), torch.tensor(1).to(torch.int8)])
def test_what_cannot_be_packed_is_refused(bad):
    with pytest.raises(ValueError, match=r"int8 \[..., even\], got"):
        pack_int4(bad)


@pytest.mark.parametrize("bad", [torch.ones(4, 2, dtype=torch.uint8), torch.tensor(1).to(torch.int8)])
def test_what_cannot_be_unpacked_is_refused(bad):
    with pytest.raises(ValueError, match=r"int8 \[..., k / 2\], got"):
        unpack_int4(bad)


def test_dequantising_takes_both_scale_dtypes_and_returns_the_dtype_asked_for():
    packed, scale = quantize_int4_group(noise(4, 256))
    exact = dequantize_int4_group(packed, scale)
    assert torch.equal(dequantize_int4_group(packed, scale.float()), exact)
    assert torch.equal(dequantize_int4_group(packed, scale, torch.bfloat16), exact.bfloat16())
    third = dequantize_int4_group(packed, torch.full((4, 2), 1 / 3))  # no bf16: a float32 scale is used as it is
    assert torch.equal(third, unpack_int4(packed).float() * torch.tensor(1 / 3))


@pytest.mark.parametrize("shape", [(4, 1), (3, 2), (2, 4), (8,), (4, 2, 1)])
def test_scales_of_another_matrix_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(4, 2\), got .*; take both tensors from the same checkpoint"):
        dequantize_int4_group(torch.zeros(4, 128, dtype=torch.int8), torch.ones(shape))


@pytest.mark.parametrize("packed", [torch.zeros(4, 64), torch.zeros(4, 64, dtype=torch.uint8), torch.zeros(64).char()])
def test_only_a_packed_matrix_is_dequantised(packed):
    with pytest.raises(ValueError, match=r"int8 \[out, in / 2\], got"):
        dequantize_int4_group(packed, torch.ones(4, 1))


def test_the_error_of_a_weight_and_its_sum_over_tensors():
    packed, scale = pack_int4(torch.full((2, 128), 2, dtype=torch.int8)), torch.ones(2, 1)
    weight = torch.full((2, 128), 3.0)
    weight[:, :64] = 2.0
    error = weight_error(weight, packed, scale)
    assert error == WeightError(squared_error=128.0, squared_weight=4 * 128.0 + 9 * 128.0)
    assert error.relative == pytest.approx((1 / 13) ** 0.5)
    assert sum([error, error], WeightError(0.0, 0.0)) == WeightError(256.0, 26 * 128.0)


def test_the_error_of_zeros_and_of_huge_weights_is_a_number():
    zeros = torch.zeros(2, 128)
    assert weight_error(zeros, *quantize_int4_group(zeros)).relative == 0
    assert WeightError(1.0, 0.0).relative == float("inf")
    assert 0.01 < weight_error(1e37 * noise(2, 128), *quantize_int4_group(1e37 * noise(2, 128))).relative < 0.2


def test_the_error_does_not_depend_on_chunks(monkeypatch):
    weight = noise(40, 256).bfloat16()
    quantised = quantize_int4_group(weight)
    whole = weight_error(weight, *quantised)
    monkeypatch.setattr(int4_group, "_CPU_CHUNK", 256 * 7)
    parts = weight_error(weight, *quantised)
    assert parts.squared_error == pytest.approx(whole.squared_error, rel=1e-12)
    assert parts.squared_weight == pytest.approx(whole.squared_weight, rel=1e-12)


def test_the_error_of_another_weight_is_refused():
    packed, scale = quantize_int4_group(torch.ones(2, 128))
    with pytest.raises(ValueError, match=r"packed as \(2, 64\) is not a weight of shape \(1, 128\)"):
        weight_error(torch.ones(1, 128), packed, scale)


@pytest.mark.gpu
@each_method
def test_a_gpu_finds_weights_as_good(method):
    weight = noise(300, 6144)
    on_cpu = weight_error(weight, *quantize_int4_group(weight, method))
    packed, scale = quantize_int4_group(weight.cuda(), method)
    on_gpu = weight_error(weight.cuda(), packed, scale)
    assert packed.is_cuda and on_gpu.relative == pytest.approx(on_cpu.relative, rel=1e-6)
    assert torch.equal(dequantize_int4_group(packed, scale).cpu(), dequantize_int4_group(packed.cpu(), scale.cpu()))

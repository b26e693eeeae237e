"""The int4 quantiser's kernel, held to the functions of the format: by Triton's interpreter on a CPU, and on a GPU.

Run as a program it writes what the kernel gives, interpreted, for all that the tests without a GPU look at.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from functools import cache
from pathlib import Path

import pytest
import torch

from sglang_glm52.errors import ConfigError
from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.formats.int4_group import GROUP, METHODS, dequantize_int4_group, quantize_int4_group
from sglang_glm52.kernels.int4_quantize import bench, cases, int4_quantize, ref
from sglang_glm52.kernels.int4_quantize.cases import Case, make_weight
from sglang_glm52.kernels.int4_quantize.slab import NUM_BROKEN, SQUARED_ERRORS, SQUARED_WEIGHT, Int4Slab
from sglang_glm52.quantize.int4_slab import errors_of, quantize_int4_slab

SEED = 1
# 128 squares added up in float32, in two orders: some roundings of 2**-24 apart.
EQUALLY_GOOD = 2**-20
BROKEN = {
    "nan": (torch.float32, float("nan"), None),
    "inf": (torch.float32, float("inf"), None),
    "-inf": (torch.bfloat16, -float("inf"), None),
    "nan of e4m3": (torch.float8_e4m3fn, float("nan"), 1.0),
    "beyond float32 with its scale": (torch.float8_e4m3fn, 448.0, 1e36),
}


def broken(kind: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One value among the last group's zeros."""
    dtype, value, scale = BROKEN[kind]
    weight = torch.zeros(20, 256)
    weight[-1, -1] = value
    return weight.to(dtype), None if scale is None else torch.full((1, 2), scale)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict[str, Int4Slab]:
    """Triton takes its interpreter or its compiler when it is imported, hence the process."""
    file = tmp_path_factory.mktemp("interpreted") / "slabs.pt"
    subprocess.run([sys.executable, __file__, file], env=os.environ | {"TRITON_INTERPRET": "1"}, check=True)
    return {name: Int4Slab(*parts) for name, parts in torch.load(file).items()}


@cache
def made(case: Case) -> tuple[torch.Tensor, torch.Tensor | None]:
    return make_weight(case, SEED)


@cache
def float32_weight(case: Case) -> torch.Tensor:
    weight, block_scale = made(case)
    return weight.float() if block_scale is None else dequantize_fp8_block(weight, block_scale)


def check_bytes(case: Case, method: str, found: Int4Slab) -> None:
    """Those of the format, or where the scale is another, with an error that is the same."""
    weight = float32_weight(case)
    expected = quantize_int4_group(weight, method)
    assert (found.packed.dtype, found.packed.shape) == (torch.int8, expected.packed.shape)
    assert (found.scale.dtype, found.scale.shape) == (torch.bfloat16, expected.scale.shape)
    other = found.scale != expected.scale
    differs = (found.packed != expected.packed).view(*other.shape, GROUP // 2).any(-1)
    assert not (differs & ~other).any(), f"{(differs & ~other).sum()} groups with the scale that was expected"
    if method == "rtn":
        assert not other.any()
    errors, best = (group_errors(weight, packed, scale)[other] for packed, scale in (found[:2], expected))
    print(f"{case} {method}: {other.sum()} of {other.numel()} groups have another scale")
    assert ((errors - best).abs() <= EQUALLY_GOOD * best).all()


def group_errors(weight: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """[rows, groups of a row] float64: sum of (w - q * scale)^2."""
    difference = weight.double() - dequantize_int4_group(packed, scale).double()
    return difference.square().view(*scale.shape, GROUP).sum(-1)


def check_sums(case: Case, found: dict[str, Int4Slab]) -> None:
    """What they say of a method is the error of that method's own output, whichever method's output was kept."""
    weight = float32_weight(case)
    errors = [group_errors(weight, *found[method][:2]).sum().item() for method in METHODS]
    for slab in found.values():
        assert slab.sums[NUM_BROKEN] == 0
        assert slab.sums[SQUARED_WEIGHT].item() == pytest.approx(weight.double().square().sum().item(), rel=1e-12)
        assert slab.sums[SQUARED_ERRORS].tolist() == pytest.approx(errors, rel=1e-6, abs=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", cases.SMALL, ids=str)
def test_interpreted_bytes_are_those_of_the_format(case, method, interpreted):
    check_bytes(case, method, interpreted[f"{case} {method}"])


@pytest.mark.parametrize("case", cases.SMALL, ids=str)
def test_interpreted_sums_are_those_of_float64(case, interpreted):
    check_sums(case, {method: interpreted[f"{case} {method}"] for method in METHODS})


@pytest.mark.parametrize("kind", BROKEN)
def test_interpreted_values_that_are_not_finite_are_refused(kind, interpreted):
    with pytest.raises(ValueError, match="NaN or values beyond float32's range"):
        errors_of(interpreted[kind].sums)


@pytest.mark.parametrize("case", cases.SMALL, ids=str)
def test_the_reference_gives_the_bytes_of_the_format(case):
    weight, block_scale = made(case)
    for method in METHODS:
        found, expected = (
            ref.int4_quantize(weight, block_scale=block_scale, method=method),
            quantize_int4_group(float32_weight(case), method),
        )
        assert torch.equal(found.packed, expected.packed) and torch.equal(found.scale, expected.scale)


def test_cases_hold_what_they_promise():
    scales = {case: quantize_int4_group(float32_weight(case)).scale for case in cases.SMALL}
    assert {case.values for case in cases.SMALL} == {*cases.VALUES, cases.ALL_CODES}
    assert any((scale < 0).any() and (scale > 0).any() for scale in scales.values())
    for case in cases.SMALL:
        weight = float32_weight(case)
        if case.values == "ties" and case.dtype == torch.float32:
            halves = weight / quantize_int4_group(weight, "rtn").scale.float().repeat_interleave(GROUP, 1) % 1
            assert set(halves.unique().tolist()) == {0.0, 0.5} and (halves == 0.5).float().mean() > 0.4
        if case.values == cases.ALL_CODES:
            codes = made(case)[0].view(torch.uint8)
            assert codes[:, ::2].unique().numel() == codes[:, 1::2].unique().numel() == 254


WEIGHT = torch.zeros(130, 256)
REFUSED = {
    "int4 groups need a matrix": {"weight": WEIGHT[0]},
    "the input dimension must be a multiple of 128": {"weight": WEIGHT[:, :130].contiguous()},
    "int4 groups are made from a float weight": {"weight": WEIGHT.to(torch.int8)},
    "weight is torch.float64; expected one of": {"weight": WEIGHT.double()},
    r"weight has strides \(512, 2\)": {"weight": WEIGHT.repeat(1, 2)[:, ::2]},
    r"weight has strides \(256, 1\)": {"weight": WEIGHT[:, :128]},
    "unknown int4 method 'best'": {"method": "best"},
    r"block_scale is torch.float32 \(1, 2\); .* has torch.float32 \(2, 2\)": {"block_scale": torch.ones(1, 2)},
    "block_scale is torch.bfloat16": {"block_scale": torch.ones(2, 2).bfloat16()},
    "block_scale has strides": {"block_scale": torch.ones(2, 2).T},
    "block_scale is on meta": {"block_scale": torch.ones(2, 2, device="meta")},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_argument_is_refused_by_name(message):
    call = {"weight": WEIGHT, **REFUSED[message]}
    with pytest.raises(ValueError, match=f"^{message}"):
        int4_quantize(call.pop("weight"), **call)


def test_a_cpu_takes_the_reference():
    weight, block_scale = make_weight(Case(130, 256, torch.float8_e4m3fn, "normal", ""), SEED)
    found, expected = quantize_int4_slab(weight, "mse", block_scale), ref.int4_quantize(weight, block_scale=block_scale)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_a_bench_of_no_steps_is_refused():
    with pytest.raises(ConfigError, match="^--steps 0: expected 1 or more"):
        bench.run(Namespace(steps=0))


def on_gpu(case: Case, method: str) -> Int4Slab:
    weight, block_scale = made(case)
    slab = int4_quantize(weight.cuda(), block_scale=None if block_scale is None else block_scale.cuda(), method=method)
    return Int4Slab(*(part.cpu() for part in slab))


@pytest.mark.gpu
@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_a_gpu_gives_the_bytes_of_the_format(case):
    found = {method: on_gpu(case, method) for method in METHODS}
    for method, slab in found.items():
        check_bytes(case, method, slab)
        again = on_gpu(case, method)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(slab, again, strict=True))
    check_sums(case, found)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", BROKEN)
def test_a_gpu_refuses_values_that_are_not_finite(kind):
    weight, block_scale = broken(kind)
    slab = quantize_int4_slab(weight.cuda(), "mse", None if block_scale is None else block_scale.cuda())
    with pytest.raises(ValueError, match="NaN or values beyond float32's range"):
        errors_of(slab.sums)


@pytest.mark.gpu
def test_the_kernel_is_faster_than_the_disk():
    row = bench.measure(bench.TIMED[0], steps=20)
    print(f"{row.case}: {row.kernel_us:.1f} us, {row.gb_per_second:.1f} GB/s of source; torch {row.torch_us:.1f} us")
    assert row.gb_per_second > 20


def _write_interpreted(file: Path) -> None:
    slabs = {
        f"{case} {method}": int4_quantize(weight, block_scale=block_scale, method=method)
        for case in cases.SMALL
        for weight, block_scale in [made(case)]
        for method in METHODS
    }
    for kind in BROKEN:
        weight, block_scale = broken(kind)
        slabs[kind] = int4_quantize(weight, block_scale=block_scale)
    torch.save({name: tuple(slab) for name, slab in slabs.items()}, file)


if __name__ == "__main__":
    _write_interpreted(Path(sys.argv[1]))

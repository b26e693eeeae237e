"""Each tensor's fate, from names, types and shapes alone.

Routed experts become int4 groups of 128. From an FP8 checkpoint all else is copied byte for byte. From a BF16 one the
other linear layers become FP8 blocks, because SGLang's W4AFP8 gives every linear layer its FP8 method: exactly the
tensors that the published FP8 checkpoint has in FP8. Either way the result is the published W4AFP8 form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.models.weights import SCALE_SUFFIX, is_routed_expert, scale_shape
from sglang_glm52.quantize.problems import Problems
from sglang_glm52.quantize.published_form import all_shapes, is_converted, optional_shapes
from sglang_glm52.quantize.shards import TensorInfo

_HIGH_PRECISION = ("BF16", "F32")
_INTEGERS = ("I8", "U8", "I32", "U32")


class Action(Enum):
    """What becomes of a tensor; the value is what reports say."""

    COPY = "copied"
    INT4 = "to int4 groups"
    FP8 = "to FP8 blocks"


@dataclass(frozen=True, slots=True)
class Step:
    """One weight and what is written for it."""

    action: Action
    sources: tuple[TensorInfo, ...]  # the weight; after it, if it is FP8 and not copied, its scale
    outputs: tuple[TensorInfo, ...]  # in the file that held the weight

    @property
    def weight(self) -> TensorInfo:
        return self.sources[0]

    @property
    def source_bytes(self) -> int:
        return sum(info.nbytes for info in self.sources)

    @property
    def output_bytes(self) -> int:
        return sum(info.nbytes for info in self.outputs)


def published_tensors(arch: Glm52Arch) -> Iterator[TensorInfo]:
    """What a checkpoint with this config.json holds, in checkpoint order: FP8 with scales, or BF16."""
    for name, shape in all_shapes(arch).items():
        if name.endswith("e_score_correction_bias"):
            yield TensorInfo(name, "F32", shape)
        elif _is_fp8(arch, name, shape):
            yield TensorInfo(name, "F8_E4M3", shape)
            yield TensorInfo(name + SCALE_SUFFIX, "F32", scale_shape(shape))
        else:
            yield TensorInfo(name, "BF16", shape)


def make_plan(arch: Glm52Arch, tensors: Iterable[TensorInfo]) -> tuple[Step, ...]:
    """Steps in checkpoint order for `tensors`, which come in any order, each name once.

    Raises:
        CheckpointError: lists each missing, unexpected, mis-shaped or mis-typed tensor by name.
        ConfigError: an expert's input dimension is not a multiple of 128.
    """
    found = {info.name: info for info in tensors}
    expected = {info.name: info for info in published_tensors(arch)}
    expected |= {
        name: TensorInfo(name, "BF16", shape) for name, shape in optional_shapes(arch).items() if name in found
    }
    problems = Problems()
    for name, info in found.items():
        if name not in expected:
            problems.add("unexpected", f"{name} {info.dtype} {list(info.shape)}")
        elif wrong := _difference(info, expected[name]):
            problems.add("wrong", f"{name} {wrong}")
    for name in expected.keys() - found.keys():
        problems.add("missing scale" if name.endswith(SCALE_SUFFIX) else "missing", name)
    for names in problems.by_kind.values():
        names.sort()
    problems.raise_if_any("the tensors are not those that config.json describes; download the checkpoint again")
    return tuple(_steps(arch, {name: found[name] for name in expected}))


def _is_fp8(arch: Glm52Arch, name: str, shape: tuple[int, ...]) -> bool:
    if arch.quant is None or not is_converted(name, shape):
        return False
    return is_routed_expert(name) or name.removesuffix(".weight") not in arch.quant.modules_to_not_convert


def _difference(found: TensorInfo, expected: TensorInfo) -> str:
    """How a tensor differs from what it should be, "" if it does not."""
    # What is converted, and its scales, have one type; norms, biases and the router's tensors may have either.
    allowed = (expected.dtype,) if is_converted(expected.name, expected.shape) else _HIGH_PRECISION
    if found.dtype not in allowed:
        return f"is {found.dtype}, expected {' or '.join(allowed)}{_remedy(found, allowed)}"
    if found.shape != expected.shape:
        return f"has shape {list(found.shape)}, expected {list(expected.shape)}"
    return ""


def _remedy(found: TensorInfo, allowed: tuple[str, ...]) -> str:
    if is_routed_expert(found.name) and found.dtype in _INTEGERS:
        return ": it is quantised already, name the FP8 or BF16 checkpoint it was made from"
    if {found.dtype, *allowed} == {"BF16", "F8_E4M3"}:
        return ": config.json's quantization_config does not say how the tensors are stored"
    return ""


def _steps(arch: Glm52Arch, found: dict[str, TensorInfo]) -> Iterator[Step]:
    for name, info in found.items():
        if is_routed_expert(name):
            if not name.endswith(SCALE_SUFFIX):
                scale = found.get(name + SCALE_SUFFIX)
                yield Step(Action.INT4, (info, scale) if scale else (info,), _int4_tensors(info))
        elif arch.quant is None and is_converted(name, info.shape):
            scale = TensorInfo(name + SCALE_SUFFIX, "F32", scale_shape(info.shape))
            yield Step(Action.FP8, (info,), (TensorInfo(name, "F8_E4M3", info.shape), scale))
        else:
            yield Step(Action.COPY, (info,), (info,))


def _int4_tensors(weight: TensorInfo) -> tuple[TensorInfo, TensorInfo]:
    outputs, inputs = weight.shape
    if inputs % GROUP:
        raise ConfigError(
            f"{weight.name} has {inputs} inputs, not a multiple of {GROUP}: int4 groups need hidden_size and "
            f"moe_intermediate_size to be one"
        )
    return (
        TensorInfo(weight.name, "I8", (outputs, inputs // 2)),
        TensorInfo(weight.name + SCALE_SUFFIX, "BF16", (outputs, inputs // GROUP)),
    )

"""How a weight may lie in a checkpoint: what its tensors are, and how they become the weight. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.formats.int4_group import GROUP, dequantize_int4_group
from sglang_glm52.models.weights import is_routed_expert, scale_shape

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """A quantised form of a weight [out, in]: `X.weight` in `dtype` and `X.weight_scale_inv`."""

    dtype: torch.dtype
    is_optional: bool  # whether an unquantised weight may stand in its place
    weight_shape: Callable[[Shape], Shape]  # from [out, in]
    scale_shape: Callable[[Shape], Shape]
    dequantize: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (weight, scale) -> [out, in] float32


FP8_BLOCK = Storage(
    dtype=torch.float8_e4m3fn,
    is_optional=True,  # `modules_to_not_convert` spells some modules otherwise than the model: the dtype decides
    weight_shape=lambda shape: shape,
    scale_shape=scale_shape,
    dequantize=dequantize_fp8_block,
)
INT4_GROUP = Storage(
    dtype=torch.int8,
    is_optional=False,
    weight_shape=lambda shape: (shape[0], shape[1] // 2),
    scale_shape=lambda shape: (shape[0], shape[1] // GROUP),
    dequantize=dequantize_int4_group,
)


def storage_of(arch: Glm52Arch, weight_name: str) -> Storage:
    """The quantised form that checkpoint weight `weight_name` may have, or must have."""
    return INT4_GROUP if arch.has_int4_experts and is_routed_expert(weight_name) else FP8_BLOCK


def weight_problem(storage: Storage, shape: Shape, tensor: torch.Tensor, may_be_plain: bool) -> str:
    """What is wrong with `X.weight` of a weight of `shape` [out, in], "" if nothing is.

    `may_be_plain`: it need not be quantised.
    """
    if tensor.dtype == storage.dtype:
        return _shape_problem(tensor, storage.weight_shape(shape))
    if not may_be_plain:
        return (
            f"is {tensor.dtype}, expected {storage.dtype}: quantization_config says so, and its modules_to_not_convert "
            "does not list it"
        )
    if not _is_plain(tensor):
        return f"is {tensor.dtype}, expected bfloat16 or {storage.dtype}"
    return _shape_problem(tensor, shape)


def scale_problem(storage: Storage, shape: Shape, tensor: torch.Tensor) -> str:
    """What is wrong with `X.weight_scale_inv` of a weight of `shape` [out, in], "" if nothing is."""
    if not _is_plain(tensor):
        return f"is {tensor.dtype}, expected float32 or bfloat16"
    return _shape_problem(tensor, storage.scale_shape(shape))


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype.itemsize > 1


def _shape_problem(tensor: torch.Tensor, expected: Shape) -> str:
    shape = tuple(tensor.shape)
    return "" if shape == expected else f"has shape {shape}, expected {expected}"

"""What quantising a slab gives, and what it is given; shared by the kernel and its reference."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sglang_glm52.formats.fp8_block import BLOCK
from sglang_glm52.formats.int4_group import METHODS, check_weight

# By which name the sums of a slab stand, in order.
NUM_BROKEN, SQUARED_WEIGHT = 0, 1
SQUARED_ERRORS = slice(2, 2 + len(METHODS))  # in the order of METHODS
NUM_SUMS = 2 + len(METHODS)


class Int4Slab(NamedTuple):
    """What became of a slab, all on its device."""

    packed: torch.Tensor  # [rows, cols / 2] int8, see `pack_int4`
    scale: torch.Tensor  # [rows, cols / 128] bfloat16
    sums: torch.Tensor  # [NUM_SUMS] float64: parts with values that are not finite, squared weight, squared errors


def check_slab(weight: torch.Tensor, block_scale: torch.Tensor | None, method: str) -> None:
    """Raise ValueError unless the arguments belong together. Reads no values."""
    check_weight(weight)
    if method not in METHODS:
        raise ValueError(f"unknown int4 method {method!r}; choose one of {', '.join(METHODS)}")
    if block_scale is None:
        return
    expected = tuple(-(-dim // BLOCK) for dim in weight.shape)
    if tuple(block_scale.shape) != expected or block_scale.dtype != torch.float32:
        raise ValueError(
            f"block_scale is {block_scale.dtype} {tuple(block_scale.shape)}; a weight of shape {tuple(weight.shape)} "
            f"has torch.float32 {expected}"
        )
    if block_scale.device != weight.device:
        raise ValueError(f"block_scale is on {block_scale.device}; expected {weight.device}, where the weight is")

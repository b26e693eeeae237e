"""One slab of a weight to int4 by one method, with the error of every method, and no wait for the device."""

from __future__ import annotations

import torch

from sglang_glm52.formats.int4_group import METHODS, NOT_FINITE, WeightError
from sglang_glm52.kernels.int4_quantize import int4_quantize, ref
from sglang_glm52.kernels.int4_quantize.slab import NUM_BROKEN, SQUARED_ERRORS, SQUARED_WEIGHT, Int4Slab


def quantize_int4_slab(weight: torch.Tensor, method: str, block_scale: torch.Tensor | None = None) -> Int4Slab:
    """The bytes that `quantize_int4_group` gives; values that are not finite show in `sums` only.

    Args:
        weight: [rows, cols], on a GPU contiguous.
        block_scale: of its FP8 blocks, if it is FP8 with such.
    """
    quantize = int4_quantize if weight.is_cuda else ref.int4_quantize
    return quantize(weight, block_scale=block_scale, method=method)


def errors_of(sums: torch.Tensor) -> dict[str, WeightError]:
    """Of a slab, by method; `sums` as in `Int4Slab`.

    Raises:
        ValueError: the weight has values that are not finite.
    """
    found = sums.tolist()
    if found[NUM_BROKEN]:
        raise ValueError(NOT_FINITE)
    return {
        name: WeightError(error, found[SQUARED_WEIGHT])
        for name, error in zip(METHODS, found[SQUARED_ERRORS], strict=True)
    }

"""A slab to int4 in plain torch: what the kernel is held to, and how a CPU quantises."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.formats.int4_group import (
    GROUP,
    METHODS,
    GroupSearch,
    as_groups,
    pack_int4,
    row_chunks,
    squared_sum,
)
from sglang_glm52.kernels.int4_quantize.slab import NUM_SUMS, Int4Slab, check_slab

# In the order of METHODS: `mse` begins with what `rtn` has rounded.
_SCALES: dict[str, Callable[[GroupSearch], torch.Tensor]] = {
    "rtn": GroupSearch.rtn_scale,
    "mse": GroupSearch.mse_scale,
}
assert list(_SCALES) == list(METHODS)


def int4_quantize(weight: torch.Tensor, *, block_scale: torch.Tensor | None = None, method: str = "mse") -> Int4Slab:
    """The bytes that `quantize_int4_group(weight, method)` gives; values that are not finite show in `sums` only.

    Args:
        weight: [rows, cols], any float dtype, any strides, cols a multiple of 128.
        block_scale: [ceil(rows / 128), cols / 128] float32, of the FP8 blocks that `weight` then is; see `formats`.
        method: a name in METHODS: which one's result is kept. The sums always have the errors of all.
    """
    check_slab(weight, block_scale, method)
    if block_scale is not None:
        weight = dequantize_fp8_block(weight, block_scale)
    rows, cols = weight.shape
    packed = torch.empty(rows, cols // 2, dtype=torch.int8, device=weight.device)
    scale = torch.empty(rows, cols // GROUP, dtype=torch.bfloat16, device=weight.device)
    sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=weight.device)
    for part in row_chunks(weight):
        groups = as_groups(weight[part])
        search = GroupSearch(groups)
        found = [(~search.is_finite()).double(), squared_sum(groups)]
        for name, choose in _SCALES.items():
            chosen = choose(search)
            found.append(search.squared_error(chosen))
            if name == method:
                scale[part] = chosen
                packed[part] = pack_int4(search.round(chosen).flatten(1).to(torch.int8))
        sums += torch.stack(found)
    return Int4Slab(packed, scale, sums)

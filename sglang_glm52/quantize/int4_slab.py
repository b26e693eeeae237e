"""One slab of a weight to int4 by one method, with the error of every method, and no wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from sglang_glm52.formats.int4_group import (
    GROUP,
    METHODS,
    NOT_FINITE,
    GroupSearch,
    WeightError,
    as_groups,
    check_weight,
    pack_int4,
    row_chunks,
    squared_sum,
)

# In the order of METHODS: `mse` begins with what `rtn` has rounded.
_SCALES: dict[str, Callable[[GroupSearch], torch.Tensor]] = {
    "rtn": GroupSearch.rtn_scale,
    "mse": GroupSearch.mse_scale,
}
assert list(_SCALES) == list(METHODS)


class Int4Slab(NamedTuple):
    """What became of a slab, all on its device."""

    packed: torch.Tensor  # as in `Int4Group`
    scale: torch.Tensor
    sums: torch.Tensor  # float64, see `errors_of`


def quantize_int4_slab(weight: torch.Tensor, method: str) -> Int4Slab:
    """The bytes that `quantize_int4_group(weight, method)` gives; values that are not finite show in `sums` only."""
    check_weight(weight)
    rows, cols = weight.shape
    packed = torch.empty(rows, cols // 2, dtype=torch.int8, device=weight.device)
    scale = torch.empty(rows, cols // GROUP, dtype=torch.bfloat16, device=weight.device)
    sums = torch.zeros(len(_SCALES) + 2, dtype=torch.float64, device=weight.device)
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


def errors_of(sums: torch.Tensor) -> dict[str, WeightError]:
    """Of a slab, by method. `sums`: chunks with values that are not finite, squared weight, squared errors.

    Raises:
        ValueError: there are such values.
    """
    num_broken, squared_weight, *squared_errors = sums.tolist()
    if num_broken:
        raise ValueError(NOT_FINITE)
    return {name: WeightError(error, squared_weight) for name, error in zip(_SCALES, squared_errors, strict=True)}

"""From how many tokens the grouped path is faster than the decode path, as `glm52 bench moe --tune` measured it."""

from __future__ import annotations

from collections.abc import Mapping

# Device name -> inner size of a rank -> the smallest number of tokens for the grouped path.
Crossovers = Mapping[str, Mapping[int, int]]

MEASURED: Crossovers = {"NVIDIA H200": {256: 64}, "NVIDIA H100 80GB HBM3": {256: 128}}
UNMEASURED = 96  # both paths read all weights of nearly 256 experts from here on; a tile of rows then pays


def first_grouped(device: str, inner: int, measured: Crossovers = MEASURED) -> int:
    """The smallest number of tokens that the grouped path takes.

    Of a device that was measured, the entry of the nearest inner size counts, the smaller of two as near.
    """
    sizes = measured.get(device)
    if not sizes:
        return UNMEASURED
    return sizes[min(sizes, key=lambda size: (max(size, inner) / min(size, inner), size))]

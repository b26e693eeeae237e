"""What a call of the op must move and compute at least, and the time that takes; `glm52 bench moe` times the cases."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.kernels.int4_experts.cases import LARGE, Case

TOKENS = tuple(case.num_tokens for case in LARGE if case.timed)
# Dense FP8 tensor-core peak by device name, from the vendor's data sheets.
FP8_FLOPS = {
    "NVIDIA H200": 1979e12,
    "NVIDIA H100 80GB HBM3": 1979e12,
    "NVIDIA H20": 296e12,
}
_PACKED, _SCALE, _ACTIVATION = 0.5, 2 / GROUP, 2  # bytes of an int4 weight, of its share of a bf16 scale, of a bf16


@dataclass(frozen=True, slots=True)
class Work:
    """Of one call, or by `+` of several."""

    weight_bytes: int  # of the experts that at least one token has, each read once
    activation_bytes: int  # the input read, the output written
    flops: int

    def __add__(self, other: Work) -> Work:
        return Work(
            self.weight_bytes + other.weight_bytes,
            self.activation_bytes + other.activation_bytes,
            self.flops + other.flops,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device can do."""

    bytes_per_second: float  # measured, reading and writing
    fp8_flops: float | None  # the vendor's figure; None for a device without one here

    def floor_us(self, work: Work) -> float:
        """The time below which no implementation can be, whatever it overlaps."""
        memory = (work.weight_bytes + work.activation_bytes) / self.bytes_per_second
        compute = work.flops / self.fp8_flops if self.fp8_flops else 0.0
        return 1e6 * max(memory, compute)


def work_of(case: Case, topk_ids: torch.Tensor) -> Work:
    """The work of one call with these ids [num_tokens, topk]; negative ones are no work."""
    here = topk_ids[topk_ids >= 0]
    weights_an_expert = 3 * case.inner * case.hidden  # gate, up and down
    return Work(
        weight_bytes=round(here.unique().numel() * weights_an_expert * (_PACKED + _SCALE)),
        activation_bytes=2 * case.num_tokens * case.hidden * _ACTIVATION,
        flops=2 * here.numel() * weights_an_expert,
    )

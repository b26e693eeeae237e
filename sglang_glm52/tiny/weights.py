"""Which tensors a small checkpoint has and how each is stored: bf16, or FP8 where the published one has FP8."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.formats.fp8_block import quantize_fp8_block
from sglang_glm52.models.weights import SCALE_SUFFIX, is_routed_expert
from sglang_glm52.quantize.int4_slab import quantize_int4_slab
from sglang_glm52.quantize.published_form import all_shapes, is_converted
from sglang_glm52.tiny.mtp_values import CodedValues
from sglang_glm52.tiny.values import Values


def make_values(arch: Glm52Arch, seed: int, mtp_acceptance: float | None, device: str = "cpu") -> Values | CodedValues:
    """The numbers to fill a checkpoint with; ConfigError for an acceptance that `CodedValues.make` refuses."""
    values = Values(arch, seed, device)
    return values if mtp_acceptance is None else CodedValues.make(values, mtp_acceptance)


def make_tensors(arch: Glm52Arch, fmt: str, values: Values | CodedValues) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (checkpoint name, tensor) of the whole model, the MTP layers included.

    bf16; or FP8 with scales where published; or "w4afp8", whose experts are quantised from that FP8 as `glm52 quantize`
    does it.
    """
    for name, shape in all_shapes(arch).items():
        weight = values.tensor(name, shape)
        if fmt == "bf16" or not is_converted(name, shape):
            yield name, weight
            continue
        q, scale = quantize_fp8_block(weight)
        if fmt == "w4afp8" and is_routed_expert(name):
            q, scale, _ = quantize_int4_slab(q, "mse", block_scale=scale)
        yield name, q
        yield name + SCALE_SUFFIX, scale

"""All weights of a checkpoint as float32, whichever way they are stored."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.formats.int4_group import dequantize_int4_group
from sglang_glm52.models.weights import SCALE_SUFFIX

_UNREAD = ("input_scale", SCALE_SUFFIX)


def read_weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """Name -> float32 tensor of a BF16, FP8 or W4AFP8 checkpoint folder; scales are applied and not listed."""
    stored: dict[str, torch.Tensor] = {}
    for shard in sorted(Path(checkpoint).glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            stored |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    return {
        name: decode(tensor, stored.get(name + SCALE_SUFFIX))
        for name, tensor in stored.items()
        if not name.endswith(_UNREAD)
    }


def decode(tensor: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """A stored weight and its scales -> float32 [out, in]."""
    if tensor.dtype == torch.float8_e4m3fn:
        return dequantize_fp8_block(tensor, scale)
    if tensor.dtype == torch.int8:
        return dequantize_int4_group(tensor, scale)
    return tensor.float()

"""Which tensors a small checkpoint has and how each is stored: bf16, or FP8 where the published one has FP8."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.formats.fp8_block import quantize_fp8_block
from sglang_glm52.models.weights import SCALE_SUFFIX, expected_shapes, layer_shapes
from sglang_glm52.tiny.values import Values

# Matrices that an FP8 checkpoint leaves in bf16.
_NOT_CONVERTED = ("lm_head", "embed_tokens", "mlp.gate", "indexer.weights_proj", "eh_proj")


def make_tensors(arch: Glm52Arch, fmt: str, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (checkpoint name, tensor) of the whole model, the MTP layers included; bf16, or FP8 with scales."""
    values = Values(arch, seed)
    for name, shape in all_shapes(arch).items():
        weight = values.tensor(name, shape)
        if fmt == "fp8" and is_converted(name, shape):
            q, scale = quantize_fp8_block(weight)
            yield name, q
            yield name + SCALE_SUFFIX, scale
        else:
            yield name, weight


def all_shapes(arch: Glm52Arch) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight, in checkpoint order."""
    shapes = expected_shapes(arch, range(arch.num_layers), first_stage=True, last_stage=True)
    for layer in range(arch.num_layers, arch.num_layers + arch.num_mtp_layers):
        prefix = f"model.layers.{layer}."
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            shapes[f"{prefix}{norm}.weight"] = (arch.hidden_size,)
        shapes[f"{prefix}eh_proj.weight"] = (arch.hidden_size, 2 * arch.hidden_size)
        shapes |= {prefix + name: shape for name, shape in layer_shapes(arch, has_indexer=True, is_moe=True)}
    return shapes


def is_converted(name: str, shape: tuple[int, ...]) -> bool:
    """Whether an FP8 checkpoint stores this weight as FP8."""
    return len(shape) == 2 and not any(f"{part}." in name for part in _NOT_CONVERTED)


def unconverted_modules(arch: Glm52Arch) -> list[str]:
    """`modules_to_not_convert` in the published form.

    It names norms too, and spells the indexer's head weights `indexers_proj`, which is no module of the model.
    """
    names = (name for name, shape in all_shapes(arch).items() if not is_converted(name, shape))
    return [name.removesuffix(".weight").replace("indexer.weights_proj", "indexers_proj") for name in names]

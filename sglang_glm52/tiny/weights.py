"""Seeded random weights, scaled so that the model behaves like one: spread routing, peaked attention, usable logits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.formats.fp8_block import quantize_fp8_block
from sglang_glm52.models.weights import SCALE_SUFFIX, expected_shapes, layer_shapes

# Standard deviation times sqrt(inputs), by the last part of a name; 1 keeps the size of what comes in.
_GAINS = {
    "lm_head": 2.5,  # logits of standard deviation 2.5: neither flat nor saturated
    "q_b_proj": 2.0,  # attention scores of standard deviation about 2
    "gate": 1.5,  # router scores between 0.1 and 0.9
    "o_proj": 0.7,
    "down_proj": 0.7,
}
# Linear layers that an FP8 checkpoint leaves in bf16, as in the published one.
_NOT_CONVERTED = ("lm_head", "embed_tokens", "mlp.gate", "indexer.weights_proj", "eh_proj")
_LINEAR_SUFFIXES = ("_proj.weight", "_proj_with_mqa.weight", "wq_b.weight", "wk.weight")


def make_tensors(arch: Glm52Arch, fmt: str, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (checkpoint name, tensor) of the whole model, the MTP layers included; bf16, or FP8 with scales."""
    for name, shape in all_shapes(arch).items():
        weight = random_tensor(name, shape, seed)
        if fmt == "fp8" and is_converted(name):
            q, scale = quantize_fp8_block(weight.float())
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


def is_converted(name: str) -> bool:
    """Whether an FP8 checkpoint stores this weight as FP8."""
    return name.endswith(_LINEAR_SUFFIXES) and not any(f"{part}." in name for part in _NOT_CONVERTED)


def unconverted_modules(arch: Glm52Arch) -> list[str]:
    """Module names for `modules_to_not_convert`: every matrix that stays in bf16."""
    shapes = all_shapes(arch).items()
    return [name.removesuffix(".weight") for name, shape in shapes if len(shape) == 2 and not is_converted(name)]


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The bf16 tensor `name` of checkpoint `seed`: the same in every checkpoint and order that has it."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    values = torch.randn(shape, generator=generator)
    if name.endswith("e_score_correction_bias"):
        return (0.1 * values).float()
    if len(shape) == 1:
        return (float(name.endswith("weight")) + 0.1 * values).bfloat16()  # norms around 1, biases around 0
    if "embed_tokens" in name:
        return values.bfloat16()
    gain = _GAINS.get(name.removesuffix(".weight").rsplit(".", 1)[-1], 1.0)
    return (values * gain * shape[-1] ** -0.5).bfloat16()

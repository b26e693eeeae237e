"""Which tensors a whole GLM-5.2 checkpoint has, and which of them the published FP8 checkpoint stores as FP8. Pure."""

from __future__ import annotations

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.models.weights import expected_shapes, mtp_layer_shapes

# Matrices that an FP8 checkpoint leaves in bf16.
_NOT_CONVERTED = ("lm_head.", "embed_tokens.", "mlp.gate.", "indexer.weights_proj.", "eh_proj.", "shared_head.head.")


def all_shapes(arch: Glm52Arch) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight, MTP layers included, in checkpoint order; scales are not listed."""
    shapes = expected_shapes(arch, range(arch.num_layers), first_stage=True, last_stage=True)
    for layer in range(arch.num_layers, arch.num_layers + arch.num_mtp_layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in mtp_layer_shapes(arch)}
    return shapes


def optional_shapes(arch: Glm52Arch) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what a checkpoint may repeat in its MTP layers: the embeddings and the output head, bf16."""
    layers = range(arch.num_layers, arch.num_layers + arch.num_mtp_layers)
    names = ("embed_tokens", "shared_head.head")
    return {
        f"model.layers.{layer}.{name}.weight": (arch.vocab_size, arch.hidden_size) for layer in layers for name in names
    }


def is_converted(name: str, shape: tuple[int, ...]) -> bool:
    """Whether an FP8 checkpoint stores this weight as FP8; true of its scale too."""
    return len(shape) == 2 and not any(part in name for part in _NOT_CONVERTED)


def unconverted_modules(arch: Glm52Arch) -> list[str]:
    """`modules_to_not_convert` as an FP8 checkpoint states it.

    It names norms too, and spells the indexer's head weights `indexers_proj`, which is no module of the model.
    """
    names = (name for name, shape in all_shapes(arch).items() if not is_converted(name, shape))
    return [name.removesuffix(".weight").replace("indexer.weights_proj", "indexers_proj") for name in names]

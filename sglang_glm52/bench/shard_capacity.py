"""Whether a shard's weights fit a GPU, from the shapes of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from itertools import accumulate

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.bench.shard_config import MIN_LAYERS, Format, rank_shard
from sglang_glm52.errors import CapacityError
from sglang_glm52.models.weights import expected_shapes, layer_shapes

USABLE = 0.85  # of the GPU's memory: the rest is for the KV cache, activations, CUDA graphs and the host's libraries
EXPERT_BYTES: dict[Format, float] = {
    "fp8": 1 + 4 / 128**2,  # one float32 scale a block
    "w4afp8": 1 / 2 + 2 / 128,  # one bf16 scale a group
}
UNQUANTISED = ("embed_tokens.weight", "lm_head.weight", "mlp.gate.weight", "indexer.weights_proj.weight")


def weight_gb(fmt: Format, num_layers: int) -> float:
    """Gigabytes (1e9) of one shard's weights; what a model class holds besides the checkpoint is not in it."""
    return _cumulative_gb(fmt)[num_layers]


def check_fits(fmt: Format, num_layers: int, gpu_gb: float) -> None:
    """Raise CapacityError, naming a number of layers that fits, if the shard does not fit a GPU of `gpu_gb` (1e9 B)."""
    needed, usable = weight_gb(fmt, num_layers), USABLE * gpu_gb
    if needed <= usable:
        return
    fitting = [n for n in range(MIN_LAYERS, num_layers) if weight_gb(fmt, n) <= usable]
    remedy = f"cut it with --layers {fitting[-1]}" if fitting else "use a larger GPU"
    if fmt == "fp8" and weight_gb("w4afp8", num_layers) <= usable:
        remedy += " or measure --format w4afp8"
    raise CapacityError(
        f"{num_layers} layers in {fmt} are {needed:.1f} GB, expected at most {usable:.1f} GB "
        f"({USABLE:.0%} of the GPU's memory); {remedy}"
    )


@cache
def _cumulative_gb(fmt: Format) -> tuple[float, ...]:
    """Gigabytes by number of layers, from 0 to all; embeddings, final norm and head are in each."""
    arch = Glm52Arch.from_config(rank_shard(fmt))
    ends = expected_shapes(arch, range(0), first_stage=True, last_stage=True)
    layers = (layer_shapes(arch, kind == "full", arch.is_moe_layer(i)) for i, kind in enumerate(arch.indexer_types))
    return tuple(accumulate((_gb(shapes, fmt) for shapes in layers), initial=_gb(ends.items(), fmt)))


def _gb(shapes: Iterable[tuple[str, tuple[int, ...]]], fmt: Format) -> float:
    return sum(math.prod(shape) * _bytes_per_value(name, shape, fmt) for name, shape in shapes) / 1e9


def _bytes_per_value(name: str, shape: tuple[int, ...], fmt: Format) -> float:
    if "mlp.experts." in name:
        return EXPERT_BYTES[fmt]
    return 2.0 if len(shape) == 1 or name.endswith(UNQUANTISED) else EXPERT_BYTES["fp8"]

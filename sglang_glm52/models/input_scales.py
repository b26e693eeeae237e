"""Static activation scales of a W4AFP8 checkpoint: `X.input_scale` beside an expert's `X.weight`, one number each.

They are optional: by default activations get a scale a token while the model runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch

from sglang_glm52.models.weights import is_routed_expert, layer_of, target_of

SUFFIX = ".input_scale"
_PROJECTIONS = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
_REMEDY = "calibrate them, or unset SGLANG_GLM52_ACTIVATION to scale each token as it comes"


def full_name(name: str) -> str:
    """`X.w1.input_scale`, as SGLang spells it, is `X.gate_proj.input_scale`."""
    prefix, dot, projection = name.removesuffix(SUFFIX).rpartition(".")
    return prefix + dot + _PROJECTIONS.get(projection, projection) + SUFFIX


def weight_of(name: str) -> str:
    """The weight whose input `name` scales."""
    return full_name(name).removesuffix(SUFFIX) + ".weight"


class InputScales:
    """The scales seen so far in one load."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def take(self, name: str, tensor: torch.Tensor) -> str:
        """Keep a scale; returns what is wrong with it, "" if nothing is."""
        name = full_name(name)
        if name in self.values:
            return "comes twice"
        if tensor.numel() != 1 or not tensor.is_floating_point():
            return f"is {tensor.dtype} of shape {tuple(tensor.shape)}, expected one float32"
        self.values[name] = value = tensor.item()
        return "" if 0 < value < float("inf") else f"is {value}, expected a number above 0; {_REMEDY}"

    def largest(self) -> dict[str, float]:
        """Parameter -> the largest scale of all experts, on whichever rank: a split must not change results."""
        found: dict[str, float] = {}
        for name, value in self.values.items():
            param = target_of(name).param
            found[param] = max(value, found.get(param, value))
        return found

    def missing(self, weights: Iterable[str]) -> list[str]:
        """Names of the scales that the experts among `weights` lack."""
        names = (name.removesuffix(".weight") + SUFFIX for name in weights if is_routed_expert(name))
        return sorted(name for name in names if name not in self.values)

    def left_at_one(self) -> Iterator[str]:
        """A line for each layer's projection whose experts all have scale 1: nobody has calibrated it."""
        groups: dict[tuple[int | None, str], set[float]] = defaultdict(set)
        for name, value in self.values.items():
            projection = name.removesuffix(SUFFIX).rsplit(".", 1)[-1]
            groups[layer_of(name), projection].add(value)
        for (layer, projection), values in sorted(groups.items()):
            if values == {1.0}:
                yield f"model.layers.{layer}.mlp.experts.*.{projection}{SUFFIX} is 1.0 in every expert; {_REMEDY}"

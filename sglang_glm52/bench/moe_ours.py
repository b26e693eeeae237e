"""This package's op, and its paths alone."""

from __future__ import annotations

from functools import partial

import torch

from sglang_glm52.bench.moe_layer import Call, Layer
from sglang_glm52.kernels.int4_experts.cases import Inputs
from sglang_glm52.kernels.int4_experts.kernel import Path, decode_path, grouped_path, int4_experts


def prepare(layer: Layer) -> Call:
    return partial(_call, int4_experts, layer)


def prepare_decode(layer: Layer) -> Call:
    return partial(_call, decode_path(), layer)


def prepare_grouped(layer: Layer) -> Call:
    return partial(_call, grouped_path(), layer)


def _call(path: Path, layer: Layer, inputs: Inputs) -> torch.Tensor:
    return path(
        inputs.x,
        weights=layer.weights,
        topk_weights=inputs.topk_weights,
        topk_ids=inputs.topk_ids,
        factor=inputs.factor,
    )

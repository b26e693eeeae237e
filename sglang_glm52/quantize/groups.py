"""Tensors by what they are for: the rows of a dry run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.models.weights import is_routed_expert, layer_of
from sglang_glm52.quantize.plan import Step

_GROUPS = (  # the first that is found in the name
    ("routed experts", re.compile(r"\.mlp\.experts\.")),
    ("shared experts", re.compile(r"\.mlp\.shared_experts\.")),
    ("router", re.compile(r"\.mlp\.gate\.")),
    ("dense MLP", re.compile(r"\.mlp\.")),
    ("indexer", re.compile(r"\.self_attn\.indexer\.")),
    ("norms", re.compile(r"norm\.")),
    ("attention", re.compile(r"\.self_attn\.")),
    ("embeddings and head", re.compile(r"^(model\.embed_tokens|lm_head)\.")),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Tensors of one group that are treated alike."""

    group: str
    action: str
    source_type: str  # "F8_E4M3 + F32": a weight and its scale
    output_type: str
    weights: int
    source_bytes: int
    output_bytes: int


def rows(arch: Glm52Arch, steps: Iterable[Step]) -> list[Row]:
    """One row for each group, action and types, in the order in which they first appear."""
    found: dict[tuple[str, str, str, str], Row] = {}
    for step in steps:
        key = (
            group_of(arch, step.weight.name),
            step.action.value,
            " + ".join(info.dtype for info in step.sources),
            " + ".join(info.dtype for info in step.outputs),
        )
        row = found.get(key, Row(*key, 0, 0, 0))
        found[key] = replace(
            row,
            weights=row.weights + 1,
            source_bytes=row.source_bytes + step.source_bytes,
            output_bytes=row.output_bytes + step.output_bytes,
        )
    return list(found.values())


def group_of(arch: Glm52Arch, name: str) -> str:
    """What a tensor belongs to; the MTP layer's tensors are two groups of their own."""
    layer = layer_of(name)
    if layer is not None and layer >= arch.num_layers:
        return "MTP routed experts" if is_routed_expert(name) else "MTP, the rest"
    return next(group for group, pattern in _GROUPS if pattern.search(name))

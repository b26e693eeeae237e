"""Which layers run their indexer ("full") and which reuse the last full layer's selection ("shared")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sglang_glm52.errors import ConfigError

_LETTERS = {"F": "full", "S": "shared"}


def formula_types(num_layers: int, freq: int, offset: int) -> tuple[str, ...]:
    """A layer is full iff max(layer - offset + 1, 0) is a multiple of freq (the model's index_topk_freq rule)."""
    return tuple("full" if max(i - offset + 1, 0) % freq == 0 else "shared" for i in range(num_layers))


def read_indexer_types(config: Mapping[str, Any], num_layers: int) -> tuple[str, ...]:
    """One of "full" and "shared" for each layer.

    `indexer_types` counts most, then `index_topk_pattern`, then `index_topk_freq` with `index_skip_topk_offset`; with
    none of them every layer is full.

    Raises:
        ConfigError: two of them disagree, a length or value is wrong, or layer 0 has nothing to share.
    """
    sources = {
        "indexer_types": _from_list(config.get("indexer_types")),
        "index_topk_pattern": _from_list(config.get("index_topk_pattern")),
        "index_topk_freq": _from_formula(config, num_layers),
    }
    given = {name: types for name, types in sources.items() if types is not None}
    if not given:
        return ("full",) * num_layers
    for name, types in given.items():
        if len(types) != num_layers:
            raise ConfigError(f"{name} names {len(types)} layers, num_hidden_layers is {num_layers}; correct one of them")
    (name, types), *others = given.items()
    for other, other_types in others:
        _refuse_contradiction(name, types, other, other_types)
    if types[0] != "full":
        raise ConfigError(f"{name} makes layer 0 'shared', but there is no earlier selection to share; make it 'full'")
    return types


def _from_list(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    types = tuple(_LETTERS.get(item, item) for item in value)
    unknown = sorted({str(item) for item in types} - set(_LETTERS.values()))
    if unknown:
        raise ConfigError(f"indexer type {', '.join(unknown)} is unknown; expected 'full' or 'shared' (F or S)")
    return types


def _from_formula(config: Mapping[str, Any], num_layers: int) -> tuple[str, ...] | None:
    freq = config.get("index_topk_freq")
    if freq is None:
        return None
    offset = config.get("index_skip_topk_offset")
    offset = 2 if offset is None else offset  # the rule without an offset: layer 0, then every freq-th from 1 on
    if freq < 1 or offset < 1:
        raise ConfigError(f"index_topk_freq = {freq} and index_skip_topk_offset = {offset} must be positive")
    return formula_types(num_layers, freq, offset)


def _refuse_contradiction(name: str, types: tuple[str, ...], other: str, other_types: tuple[str, ...]) -> None:
    differing = [i for i, (a, b) in enumerate(zip(types, other_types, strict=True)) if a != b]
    if differing:
        raise ConfigError(
            f"{name} and {other} disagree about layers {differing[:8]}; running shared layers with the wrong selection "
            "degrades answers without an error, so correct config.json first"
        )

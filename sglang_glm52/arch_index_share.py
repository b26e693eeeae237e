"""Which layers run their indexer ("full") and which reuse the last full layer's selection ("shared")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sglang_glm52.arch_fields import count
from sglang_glm52.errors import ConfigError

_LETTERS = {"F": "full", "S": "shared"}
DEFAULT_OFFSET = 2  # the rule before it had an offset: layer 0, then every freq-th layer from 1 on


def formula_types(num_layers: int, freq: int, offset: int) -> tuple[str, ...]:
    """A layer is full iff max(layer - offset + 1, 0) is a multiple of freq (the model's index_topk_freq rule)."""
    return tuple("full" if max(i - offset + 1, 0) % freq == 0 else "shared" for i in range(num_layers))


def read_indexer_types(config: Mapping[str, Any], num_layers: int) -> tuple[str, ...]:
    """One of "full" and "shared" for each layer.

    Read from `indexer_types`, `index_topk_pattern`, or `index_topk_freq` with `index_skip_topk_offset`. Where several
    are given they must agree; with none of them every layer is full.

    Raises:
        ConfigError: two of them disagree, a length or value is wrong, or layer 0 has nothing to share.
    """
    sources = {
        "indexer_types": _from_list(config, "indexer_types"),
        "index_topk_pattern": _from_list(config, "index_topk_pattern"),
        "index_topk_freq": _from_formula(config, num_layers),
    }
    given = {name: types for name, types in sources.items() if types is not None}
    if not given:
        return ("full",) * num_layers
    for name, types in given.items():
        if len(types) != num_layers:
            raise ConfigError(
                f"{name} names {len(types)} layers, num_hidden_layers is {num_layers}; correct one of them"
            )
    (name, types), *others = given.items()
    for other, other_types in others:
        _refuse_contradiction(name, types, other, other_types)
    if types[0] != "full":
        raise ConfigError(f"{name} makes layer 0 'shared', but there is no earlier selection to share; make it 'full'")
    return types


def _from_list(config: Mapping[str, Any], field: str) -> tuple[str, ...] | None:
    value = config.get(field)
    if value is None:
        return None
    types = tuple(_LETTERS.get(item, item) for item in value) if isinstance(value, Sequence) else (value,)
    unknown = sorted({repr(item) for item in types if item not in _LETTERS.values()})
    if unknown:
        raise ConfigError(f"{field} has {', '.join(unknown)}; expected 'full' or 'shared' (F or S) a layer: correct it")
    return types


def _from_formula(config: Mapping[str, Any], num_layers: int) -> tuple[str, ...] | None:
    if config.get("index_topk_freq") is None:
        return None
    freq = count(config, "index_topk_freq")
    has_offset = config.get("index_skip_topk_offset") is not None
    offset = count(config, "index_skip_topk_offset") if has_offset else DEFAULT_OFFSET
    return formula_types(num_layers, freq, offset)


def _refuse_contradiction(name: str, types: tuple[str, ...], other: str, other_types: tuple[str, ...]) -> None:
    differing = [i for i, (a, b) in enumerate(zip(types, other_types, strict=True)) if a != b]
    if differing:
        raise ConfigError(
            f"{name} and {other} disagree about layers {differing[:8]}; running shared layers with the wrong selection "
            "degrades answers without an error, so correct config.json first"
        )

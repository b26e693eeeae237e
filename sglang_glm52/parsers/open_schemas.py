"""Schemas for xgrammar's strict mode: a bare object or array may hold anything, as JSON Schema says.

xgrammar 0.2.1 takes what a strict schema does not state for forbidden: {"type": "array"} allows [] alone, and
{"type": "object"} inside a tool's parameters no JSON object at all. Objects that list properties stay closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMED = ("properties", "patternProperties", "$defs", "definitions")  # name -> schema
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")


def open_parameters(parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A tool's `parameters` with every bare object and array inside opened; itself it stays as it is."""
    return None if parameters is None else _inside(parameters)


def _open(schema: Any) -> Any:
    if not isinstance(schema, Mapping):  # true and false are schemas too
        return schema
    opened, kinds = _inside(schema), schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds and not schema.get("properties"):
        opened.setdefault("additionalProperties", True)
    if "array" in kinds and "prefixItems" not in schema:
        opened.setdefault("items", {})
    return opened


def _inside(schema: Mapping[str, Any]) -> dict[str, Any]:
    opened = dict(schema)
    for key in _NAMED:
        if isinstance(schema.get(key), Mapping):
            opened[key] = {name: _open(value) for name, value in schema[key].items()}
    for key in _LISTED:
        if isinstance(schema.get(key), list):
            opened[key] = [_open(value) for value in schema[key]]
    for key in _SINGLE:
        if key in schema:
            opened[key] = _open(schema[key])
    return opened

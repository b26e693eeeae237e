"""Which JSON types a tool's schema lets an argument have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ALL = frozenset({"string", "number", "integer", "boolean", "null", "object", "array"})
# Spellings that are no JSON Schema but common in tools; SGLang rewrites more of them when it validates a request.
_ALIASES = {"str": "string", "text": "string", "int": "integer", "float": "number", "bool": "boolean"}
_ALIASES |= {"dict": "object", "map": "object", "list": "array"}
_WHITESPACE = " \t\r\n"
_MAX_NODES = 2000  # visited for one argument: references can make a small schema exponentially large


@dataclass(frozen=True, slots=True)
class ArgumentType:
    """The types an argument may have; all of them where the schema does not say."""

    types: frozenset[str] = ALL
    strings: frozenset[str] = frozenset()  # the strings that an enum or const lists

    @property
    def is_string(self) -> bool:
        return self.types == {"string"}

    def listed(self, text: str) -> str:
        """A listed string without spaces around it, which constrained output may have; any other text as it is."""
        bare = text.strip(_WHITESPACE)
        return bare if bare in self.strings and text not in self.strings else text

    def may_be_listed(self, head: str) -> bool:
        """Whether text that begins with `head` may be a listed string with spaces around it."""
        begun = head.lstrip(_WHITESPACE)
        return any(string.startswith(begun) or string == begun.rstrip(_WHITESPACE) for string in self.strings)

    def allows(self, value: Any) -> bool:
        """Whether the type of a parsed JSON value is among them."""
        name = type_of(value)
        if name == "number" and float(value).is_integer() and "integer" in self.types:
            return True
        return name in self.types or (name == "integer" and "number" in self.types)


def type_of(value: Any) -> str:
    """The JSON Schema name of a parsed value's type."""
    for kind, name in ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "object"


def argument_type(parameters: Mapping[str, Any] | None, key: str) -> ArgumentType:
    """The type of argument `key` of a tool with these `parameters`, whose `$ref` point into themselves.

    A key that the schema does not list has the type of `additionalProperties`. A broken or circular reference, or a
    schema too large to follow, allows every type.
    """
    if not isinstance(parameters, Mapping):
        return ArgumentType()
    reader = _Reader(parameters)
    try:
        found = list(reader.properties(parameters, key, frozenset()))
        types = frozenset().union(*(reader.types(schema, frozenset()) for schema in found))
    except RecursionError:
        return ArgumentType()
    return ArgumentType(types or ALL, frozenset(reader.strings))


@dataclass(slots=True)
class _Reader:
    root: Mapping[str, Any]
    strings: set[str] = field(default_factory=set)
    visited: int = 0

    def properties(self, schema: Any, key: str, followed: frozenset[str]) -> Iterator[Any]:
        """Every schema that an object of `schema` has for `key`."""
        self.visited += 1
        if not isinstance(schema, Mapping) or self.visited > _MAX_NODES:
            return
        listed = schema.get("properties")
        if isinstance(listed, Mapping) and key in listed:
            yield listed[key]
        elif isinstance(schema.get("additionalProperties"), Mapping):
            yield schema["additionalProperties"]
        for part, seen in self._parts(schema, followed):
            yield from self.properties(part, key, seen)

    def types(self, schema: Any, followed: frozenset[str]) -> frozenset[str]:
        self.visited += 1
        if not isinstance(schema, Mapping) or self.visited > _MAX_NODES:
            return ALL
        types = self._own_types(schema)
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            types &= self.types(self._resolve(reference), followed | {reference})
        for part in _listed(schema, "allOf"):
            types &= self.types(part, followed)
        for word in ("anyOf", "oneOf"):
            if parts := _listed(schema, word):
                types &= frozenset().union(*(self.types(part, followed) for part in parts))
        return types or ALL  # types that exclude each other say nothing that could be met

    def _own_types(self, schema: Mapping[str, Any]) -> frozenset[str]:
        types = _named_types(schema.get("type"))
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list) and values:
            types &= frozenset(type_of(value) for value in values)
            self.strings.update(value for value in values if isinstance(value, str))
        if "type" not in schema and isinstance(schema.get("properties"), Mapping):
            types &= {"object"}
        if "type" not in schema and isinstance(schema.get("items"), Mapping):
            types &= {"array"}
        return types

    def _parts(self, schema: Mapping[str, Any], followed: frozenset[str]) -> Iterator[tuple[Any, frozenset[str]]]:
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            yield self._resolve(reference), followed | {reference}
        for word in ("allOf", "anyOf", "oneOf"):
            yield from ((part, followed) for part in _listed(schema, word))

    def _resolve(self, reference: str) -> Any:
        """What a JSON pointer `#/...` points to; None if nothing."""
        if not reference.startswith("#"):
            return None
        node: Any = self.root
        for name in reference[1:].split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, Mapping) else None
        return node


def _named_types(names: Any) -> frozenset[str]:
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list):
        return ALL
    types = frozenset(_ALIASES.get(name, name) for name in listed if isinstance(name, str)) & ALL
    return types | {"integer"} if "number" in types else types or ALL


def _listed(schema: Mapping[str, Any], word: str) -> list[Any]:
    parts = schema.get(word)
    return parts if isinstance(parts, list) else []

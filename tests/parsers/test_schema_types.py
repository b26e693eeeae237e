"""Which types a schema allows."""

from __future__ import annotations

import pytest

from sglang_glm52.parsers.schema_types import ALL, argument_type

NUMBER = {"number", "integer"}


def readable(value: object) -> str:
    """A test's name; the order of a set changes from one process to the next."""
    return ",".join(sorted(value)) if isinstance(value, (set, frozenset)) else str(value)


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": "number"}, NUMBER),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"type": "int"}, {"integer"}),
        ({"type": "nonsense"}, ALL),
        ({"enum": ["a", 1, None]}, {"string", "integer", "null"}),
        ({"const": True}, {"boolean"}),
        ({"anyOf": [{"type": "string"}, {"type": "array"}]}, {"string", "array"}),
        ({"oneOf": [{"type": "null"}, {"enum": [1.5]}]}, {"null", "number"}),
        ({"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]}, {"integer"}),
        ({"type": "string", "anyOf": [{"type": "integer"}]}, ALL),
        ({"$ref": "#/$defs/A"}, {"object"}),
        ({"$ref": "#/$defs/a~1b"}, {"boolean"}),
        ({"allOf": [{"$ref": "#/$defs/A"}], "description": "x"}, {"object"}),
        ({"$ref": "#/$defs/Loop"}, ALL),
        ({"$ref": "#/nowhere"}, ALL),
        ({"$ref": "http://elsewhere/"}, ALL),
        ({"properties": {}}, {"object"}),
        ({"items": {}}, {"array"}),
        ({}, ALL),
        (True, ALL),
        (None, ALL),
        ({"type": 5, "enum": 5, "anyOf": 5, "$ref": 5}, ALL),
    ],
    ids=readable,
)
def test_types(schema, types):
    defs = {"A": {"type": "object"}, "a/b": {"type": "boolean"}, "Loop": {"$ref": "#/$defs/Loop"}}
    assert argument_type({"properties": {"x": schema}, "$defs": defs}, "x").types == types


@pytest.mark.parametrize(
    ("parameters", "types"),
    [
        (None, ALL),
        ({}, ALL),
        ({"properties": {"y": {"type": "string"}}}, ALL),
        ({"properties": {}, "additionalProperties": {"type": "string"}}, {"string"}),
        ({"properties": {}, "additionalProperties": False}, ALL),
        ({"$ref": "#/$defs/P", "$defs": {"P": {"properties": {"x": {"type": "null"}}}}}, {"null"}),
        ({"anyOf": [{"properties": {"x": {"type": t}}} for t in ("null", "array")]}, {"null", "array"}),
    ],
    ids=readable,
)
def test_where_a_key_is_looked_up(parameters, types):
    assert argument_type(parameters, "x").types == types


def test_a_schema_that_references_make_huge_is_given_up_on():
    defs = {str(i): {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(60)}
    assert argument_type({"properties": {"x": {"$ref": "#/$defs/0"}}, "$defs": defs}, "x").types == ALL


def test_a_schema_nested_too_deep_is_given_up_on():
    schema: dict = {"type": "string"}
    for _ in range(1500):
        schema = {"allOf": [schema]}
    assert argument_type({"properties": {"x": schema}}, "x").types == ALL

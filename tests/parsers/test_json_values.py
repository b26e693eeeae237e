"""One value's text to JSON."""

from __future__ import annotations

import json

import pytest

from sglang_glm52.parsers.json_values import close_json, to_json
from sglang_glm52.parsers.schema_types import ALL, ArgumentType


def wanted(*types: str) -> ArgumentType:
    return ArgumentType(frozenset(types))


@pytest.mark.parametrize(
    ("text", "types", "expected"),
    [
        ("007", "integer", "7"),
        ("-007.50e1", "number", "-7.50e1"),
        ("+5", "integer", "5"),
        (".5", "number", "0.5"),
        ("5.", "number", "5"),
        ("1e999", "number", "1e999"),
        ("-", "number", '"-"'),
        ("1.10", "number", "1.10"),
        ("12345678901234567890123", "integer", "12345678901234567890123"),
        ("TRUE", "boolean", "true"),
        ("None", "null", "null"),
        ("", "integer", '""'),
        ("yes", "boolean", '"yes"'),
        (" [1] ", "array", "[1]"),
        ("(1, 'a')", "array", '[1, "a"]'),
        ("{1: True}", "object", '{"1": true}'),
        ("{1, 2}", "array", '"{1, 2}"'),
        ("b'x'", "array", "\"b'x'\""),
        ("NaN", "number", '"NaN"'),
        ('{"a": NaN}', "object", '"{\\"a\\": NaN}"'),
        ("'\\ud800'", "object", "\"'\\\\ud800'\""),
        ('{"b":1,"a":1.0}', "object", '{"b":1,"a":1.0}'),
    ],
)
def test_without_strings(text: str, types: str, expected: str):
    assert to_json(text, wanted(types)) == expected
    json.loads(expected)


@pytest.mark.parametrize(
    ("text", "types", "expected"),
    [
        ("1.5", ("string", "integer"), '"1.5"'),
        ("5.0", ("string", "integer"), "5.0"),
        ("1.5", ("string", "number"), "1.5"),
        ("true", ("string", "integer"), '"true"'),
        ("true", ("string", "boolean"), "true"),
        ("True", ("string", "boolean"), '"True"'),
        ("{}", ("string", "array"), '"{}"'),
        ("[1", ("string", "array"), '"[1"'),
        (" 5 ", ("string", "integer"), "5"),
        (" five ", ("string", "integer"), '" five "'),
        ("5" * 65, ("string", "integer"), f'"{"5" * 65}"'),
        ("null", ("string", "null"), "null"),
    ],
)
def test_beside_strings(text: str, types: tuple[str, ...], expected: str):
    assert to_json(text, wanted(*types)) == expected


def test_a_listed_string_is_one():
    assert to_json("1", ArgumentType(ALL, frozenset({"1"}))) == '"1"'


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ('{"a": [1, {"b": "c', '{"a": [1, {"b": "c"}]}'),
        ('["a\\', '["a"]'),
        ('["a",', '["a"]'),
        ('{"a":', '{"a": null}'),
        ('{"a', None),
        ("[tru", None),
        ("12", None),
    ],
)
def test_what_was_cut_is_closed(text: str, closed: str | None):
    assert close_json(text) == closed


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "(" * 5000, "[" * 129 + "]" * 129, "9" * 5000, "-" * 70000])
def test_what_would_break_a_clients_parser_is_a_string(text: str):
    assert json.loads(to_json(text, wanted("array", "number", "integer"))) == text

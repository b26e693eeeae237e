"""What a demanded call may hold where its schema leaves a value open, by xgrammar's own grammar."""

from __future__ import annotations

import pytest
import xgrammar
from parsers.tool_cases import call
from sglang.srt.entrypoints.openai.protocol import Tool
from xgrammar.testing import _is_grammar_accept_string

from sglang_glm52.parsers.open_schemas import open_parameters
from sglang_glm52.parsers.tool_call_glm47 import Glm47Detector


def accepts(schema: dict, value: str) -> bool:
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    tool = Tool(type="function", function={"name": "f", "parameters": parameters})
    tag = Glm47Detector().get_structural_tag([tool], "required")
    return _is_grammar_accept_string(xgrammar.Grammar.from_structural_tag(tag), call("f", x=value))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"anyOf": [{"type": "object"}, {"type": "null"}]},
        {"allOf": [{"type": "object"}]},
    ],
    ids=["bare", "no properties", "nullable", "allOf"],
)
def test_a_bare_object_holds_anything(schema):
    assert accepts(schema, '{"a": 1, "b": {"c": [2]}}') and accepts(schema, "{}")
    assert not accepts(schema, "[1]") and not accepts(schema, "text")


@pytest.mark.parametrize("schema", [{"type": "array"}, {"oneOf": [{"type": "array"}]}], ids=["bare", "oneOf"])
def test_a_bare_array_holds_anything(schema):
    assert accepts(schema, '[1, "two", {"three": [4]}]') and accepts(schema, "[]")
    assert not accepts(schema, '{"a": 1}')


def test_what_is_stated_stays_as_stated():
    closed = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    assert accepts(closed, '{"a": 1}') and not accepts(closed, '{"a": 1, "b": 2}')
    assert open_parameters(closed) == closed
    assert open_parameters(None) is None and open_parameters({"type": "object"}) == {"type": "object"}
    assert not accepts({"type": "array", "items": {"type": "integer"}}, '["a"]')

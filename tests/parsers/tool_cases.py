"""Outputs with tool calls, and what a client should get. Shared by the tests and the table of docs/parsers.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sglang.srt.entrypoints.openai.protocol import Tool

SGLANG = "https://github.com/sgl-project/sglang/issues/"
VLLM = "https://github.com/vllm-project/vllm/issues/"

SEARCH = {
    "type": "object",
    "$defs": {"Range": {"type": "object", "properties": {"low": {"type": "integer"}}}},
    "properties": {
        "query": {"type": "string"},
        "limit": {"type": "integer"},
        "ratio": {"type": "number"},
        "exact": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "options": {"type": "object"},
        "anything": {},
        "range": {"$ref": "#/$defs/Range"},
        "note": {"type": ["string", "null"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "mode": {"enum": ["1", "2"]},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
}
TOOLS = [
    Tool(type="function", function={"name": "search", "parameters": SEARCH}),
    Tool(type="function", function={"name": "now"}),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCase:
    name: str
    why: str
    text: str
    content: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    issue: str = ""  # upstream, if it was reported
    host_fails: bool = False  # SGLang 0.5.13.post1's own parser, in at least one way of feeding it

    def __str__(self) -> str:
        return self.name


def call(name: str, **arguments: str) -> str:
    pairs = (f"<arg_key>{key}</arg_key><arg_value>{value}</arg_value>" for key, value in arguments.items())
    return f"<tool_call>{name}{''.join(pairs)}</tool_call>"


def _value(name: str, why: str, key: str, text: str, value: Any, host_fails: bool, issue: str = "") -> ToolCase:
    calls = (("search", {key: value}),)
    return ToolCase(
        name=name, why=why, text=call("search", **{key: text}), calls=calls, issue=issue, host_fails=host_fails
    )


def _string(name: str, why: str, text: str, host_fails: bool, issue: str = "") -> ToolCase:
    return _value(name, why, "query", text, text, host_fails, issue)


_COERCED = SGLANG + "30644"
STRINGS = (
    _string("plain", "the common case", "北京 ☀ weather", False),
    _string("ends in <", "a `<` before the closing tag must not hide it", "a <", True, SGLANG + "24147"),
    _string("markup", "other tags are text", "<b>x</b> </b> <arg_x> <", True, SGLANG + "24147"),
    _string("number with _", "strings are verbatim", "123_456", True, _COERCED),
    _string("number with e", "strings are verbatim", "1e5", True, _COERCED),
    _string("trailing zero", "a version is no float", "1.10", True, _COERCED),
    _string("true", "strings are verbatim", "true", True, _COERCED),
    _string("null", "strings are verbatim", "null", True, _COERCED),
    _string("json text", "a JSON file is written as it is", '{"a":1,\n "b": [1,2]}', True, SGLANG + "28114"),
    _string("python tuple", "strings are verbatim", "(1,2)", True, _COERCED),
    _string("quotes", "quotes belong to the string", '"hello"', True, _COERCED),
    _string("escapes", "backslashes belong to the string", '\\"x\\"', True, _COERCED),
    _string("spaces", "outer spaces belong to the string", "\n  indented\n", False),
    _string("empty", "an empty string is one", "", False),
    _string("literal end of value", "decided by what follows it", "say </arg_value> twice", True),
    _string("literal end of call", "within a value it is text", "say </tool_call> once", True),
    _string("literal call", "within a value it is text", "<tool_call>now", False),
    _string("U+FFFD", "what an undecodable byte becomes", "a�b", False),
)
OTHERS = (
    _value("integer", "the common case", "limit", "5", 5, False),
    _value("object", "as it stands", "options", '{"a": 1}', {"a": 1}, False),
    _value("nested object", "as it stands", "options", '{"a": {"b": [1, {}]}}', {"a": {"b": [1, {}]}}, False),
    _value("array", "as it stands", "tags", '["a", "b"]', ["a", "b"], False),
    _value("007", "no JSON number, but plainly one", "limit", "007", 7, True),
    _value("12abc", "no number at all: sent as a string", "limit", "12abc", "12abc", True),
    _value("True", "Python's spelling", "exact", "True", True, True),
    _value("python list", "Python's spelling", "tags", "['a', None]", ["a", None], True),
    _value("python dict", "Python's spelling", "options", "{'a': True}", {"a": True}, True),
    _value("raw line break", "JSON but for it", "options", '{"a": "b\nc"}', {"a": "b\nc"}, True),
    _value("untyped string", "no type in the schema", "anything", "hello", "hello", False),
    _value("untyped number", "no type: JSON is JSON", "anything", "5", 5, True, SGLANG + "39136"),
    _value("untyped quotes", "no type: strings are verbatim", "anything", '"5"', '"5"', True),
    _value("untyped code", "begins like a number", "anything", "1 + 1", "1 + 1", False),
    _value("untyped code, bracket", "begins like an array", "anything", "[x] done", "[x] done", False),
    _value("$ref", "the type is found in $defs", "range", "{'low': 1}", {"low": 1}, True, SGLANG + "36626"),
    _value("nullable null", "null is allowed", "note", "null", None, True),
    _value("nullable string", "not null", "note", "nullify", "nullify", False),
    _value("union number", "integer is allowed", "either", "5", 5, True, SGLANG + "36626"),
    _value("union string", "no integer", "either", "5 apples", "5 apples", False),
    _value("string enum", "its values are strings", "mode", "1", "1", False),
    _value("spaces around an enum's value", "the grammar of demanded calls allows them", "mode", " 1\n", "1", True),
    _value("none of an enum's values", "verbatim, as any string", "mode", " 3 ", " 3 ", True),
    _value("optional integer", "null is allowed", "maybe", "null", None, False),
    _value("optional None", "null in Python's spelling", "maybe", "None", None, True),
)
_ARGUMENT = "<arg_key>query</arg_key><arg_value>a</arg_value>"
_A, _B = ("search", {"query": "a"}), ("search", {"query": "b"})
TWO = call("search", query="a") + call("search", query="b")
CALLS = (
    ToolCase(name="no call", why="text as it is", text=" a < b\n", content=" a < b\n"),
    ToolCase(name="zero arguments", why="inline", text=call("now"), calls=(("now", {}),), issue=VLLM + "44326"),
    ToolCase(
        name="zero arguments, line break",
        why="the name is stripped",
        host_fails=True,
        text="<tool_call>now\n</tool_call>",
        calls=(("now", {}),),
    ),
    ToolCase(
        name="zero arguments, empty pair",
        why="a pair that says nothing",
        text=call("now", **{"": ""}),
        calls=(("now", {}),),
        host_fails=True,
    ),
    ToolCase(
        name="name, line break",
        why="the name is stripped",
        text=f"<tool_call>search\n{_ARGUMENT}</tool_call>",
        calls=(_A,),
        host_fails=True,
    ),
    ToolCase(
        name="line breaks everywhere",
        why="layout between tags",
        host_fails=True,
        text="<tool_call>\nsearch\n<arg_key>query</arg_key>\n<arg_value>a</arg_value>\n</tool_call>",
        calls=(_A,),
    ),
    ToolCase(
        name="two calls",
        why="both may come in one chunk",
        text=TWO,
        calls=(_A, _B),
        issue=SGLANG + "33901",
        host_fails=True,
    ),
    ToolCase(
        name="text around calls",
        why="nothing of it is lost",
        host_fails=True,
        issue=SGLANG + "31915",
        text=f"one\n{TWO[: len(TWO) // 2]}\ntwo\n{TWO[len(TWO) // 2 :]}\nthree",
        content="one\ntwo\nthree",
        calls=(_A, _B),
    ),
    ToolCase(
        name="object, then a call",
        why="its `}` does not close the arguments",
        text=call("search", options='{"a": 1}') + call("now"),
        calls=(("search", {"options": {"a": 1}}), ("now", {})),
        issue=SGLANG + "32721",
        host_fails=True,
    ),
    ToolCase(
        name="unknown tool",
        why="stays text; alike in both modes",
        text=call("other", x="1"),
        content=call("other", x="1"),
        host_fails=True,
    ),
    ToolCase(
        name="the mere tag",
        why="prose about calls is text",
        text="write <tool_call> first",
        content="write <tool_call> first",
        host_fails=True,
    ),
    ToolCase(
        name="key not closed",
        why="the value's tag shows it",
        text="<tool_call>search<arg_key>query<arg_value>a</arg_value></tool_call>",
        calls=(_A,),
        host_fails=True,
    ),
    ToolCase(
        name="key without a value",
        why="it is dropped, the call is not",
        text=f"<tool_call>search{_ARGUMENT}<arg_key>note</arg_key></tool_call>",
        calls=(_A,),
        host_fails=True,
    ),
    ToolCase(
        name="nothing but a key",
        why="it is dropped, the call is not",
        text=f"<tool_call>search{_ARGUMENT}<arg_key>note</tool_call>.",
        content=".",
        calls=(_A,),
        host_fails=True,
    ),
    ToolCase(
        name="text before a value",
        why="it is still text",
        text=f"<tool_call>search{_ARGUMENT}</tool_call>\n".replace("<arg_value>", " so <b> <arg_value>"),
        content=" so <b>",
        calls=(_A,),
        host_fails=True,
    ),
    ToolCase(
        name="layout, then text",
        why="line breaks within a call are no text",
        text=f"<tool_call>search{_ARGUMENT}\n</tool_call>.".replace("<arg_value>", "\n<arg_value>"),
        content=".",
        calls=(_A,),
        host_fails=True,
    ),
    ToolCase(
        name="key twice",
        why="both are sent; JSON parsers take the last",
        text=call("search", query="b").replace("</tool_call>", f"{_ARGUMENT}</tool_call>"),
        calls=(_A,),
    ),
    ToolCase(
        name="call left open",
        why="the next call closes it",
        text=call("now")[:-12] + call("search", query="a"),
        content="<tool_call>now",
        calls=(_A,),
        host_fails=True,
    ),
    ToolCase(
        name="second call, first unclosed",
        why="the next call closes it",
        text=TWO.replace("</tool_call>", "", 1),
        calls=(_A, _B),
        host_fails=True,
    ),
)
_CUT = SGLANG + "30480"
_OPEN = "<tool_call>search<arg_key>"
CUT = (
    ToolCase(name="cut text", why="a held `<` is passed on", text="a <", content="a <", issue=_CUT, host_fails=True),
    ToolCase(name="cut tag", why="text as far as one can tell", text="a <tool_c", content="a <tool_c", host_fails=True),
    ToolCase(
        name="cut name",
        why="no call yet: text",
        text="<tool_call>sea",
        content="<tool_call>sea",
        issue=_CUT,
        host_fails=True,
    ),
    ToolCase(name="cut key", why="dropped", text=_OPEN + "que", calls=(("search", {}),), issue=_CUT, host_fails=True),
    ToolCase(
        name="key alone",
        why="dropped",
        text=_OPEN + "query</arg_key>",
        calls=(("search", {}),),
        issue=_CUT,
        host_fails=True,
    ),
    ToolCase(
        name="cut string",
        why="closed",
        text=_OPEN + "query</arg_key><arg_value>a\\",
        calls=(("search", {"query": "a\\"}),),
        issue=VLLM + "53269",
        host_fails=True,
    ),
    ToolCase(
        name="cut array",
        why="closed",
        text=_OPEN + 'tags</arg_key><arg_value>["a", "b',
        calls=(("search", {"tags": ["a", "b"]}),),
        host_fails=True,
    ),
    ToolCase(
        name="cut word",
        why="a string, for it is no JSON",
        text=_OPEN + "exact</arg_key><arg_value>tr",
        calls=(("search", {"exact": "tr"}),),
        host_fails=True,
    ),
    ToolCase(
        name="cut after value",
        why="closed",
        text=_OPEN + "query</arg_key><arg_value>a</arg_value>",
        calls=(_A,),
        issue=_CUT,
        host_fails=True,
    ),
    ToolCase(name="cut end of call", why="closed", text=call("search", query="a")[:-3], calls=(_A,), host_fails=True),
)
TOOL_CASES = (*STRINGS, *OTHERS, *CALLS, *CUT)

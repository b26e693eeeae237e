"""Random outputs and cuts: a stream equals the whole, arguments are always JSON, and values come back as they were."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsers.feeding import parse_stream, parse_whole, random_pieces, reason_stream, reason_whole
from parsers.tool_cases import TOOLS
from sglang.srt.entrypoints.openai.protocol import Tool

from sglang_glm52.parsers.reasoning_glm45 import Glm45Detector
from sglang_glm52.parsers.scanner import Scanner
from sglang_glm52.parsers.tool_call_glm47 import Glm47Detector

CUTS = 5  # of each text; with the numbers of texts below, more than 20,000 streams are held to their whole
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"]
NAMES = ["search", "now", "other"]
KEYS = ["query", "limit", "tags", "options", "anything", "note", "either", "range", ""]
WORDS = [
    "5",
    "007",
    "1e5",
    "true",
    "True",
    "null",
    '"x"',
    '{"a": [1',
    "[1, 2]",
    "{'a': None}",
    "\\",
    "\n",
    " ",
    "北",
    "😀",
    "�",
]


def quick(num_texts: int) -> settings:
    checks = list(HealthCheck)
    return settings(
        max_examples=num_texts, deadline=None, suppress_health_check=checks, database=None, derandomize=True
    )


tags = st.sampled_from(TAGS)
broken_tags = st.builds(lambda tag, size: tag[:size], tags, st.integers(1, 11))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.lists(st.one_of(st.sampled_from(WORDS), texts, broken_tags), max_size=3).map("".join)
between = st.one_of(st.sampled_from(["", "", "\n", " "]), st.sampled_from(["", "", "", " a <b> c ", "<", "d"]))


@st.composite
def calls(draw) -> str:
    parts = ["<tool_call>", draw(st.sampled_from(NAMES))]
    for _ in range(draw(st.integers(0, 3))):
        key, value = draw(st.sampled_from(KEYS)), draw(values)
        parts += [f"<arg_key>{key}</arg_key>", f"<arg_value>{value}</arg_value>"]
    parts.append("</tool_call>")
    return "".join(part + draw(between) for part in parts)


noise = st.one_of(tags, broken_tags, st.sampled_from(WORDS + NAMES), texts)
outputs = st.lists(st.one_of(calls(), noise, noise, noise), max_size=8).map("".join)
cut_outputs = st.builds(lambda text, share: text[: int(len(text) * share)], outputs, st.sampled_from([0.5, 0.9, 1, 1]))
seeds = st.integers(0, 2**32)


@quick(3000)
@given(cut_outputs, seeds)
def test_a_stream_of_calls_equals_the_whole(text: str, seed: int):
    whole = parse_whole(Glm47Detector, text, TOOLS)
    assert all(isinstance(arguments, dict) for _, arguments in whole.calls)
    rng = random.Random(seed)
    for _ in range(CUTS):
        assert parse_stream(Glm47Detector, random_pieces(text, rng), TOOLS) == whole


@quick(1500)
@given(cut_outputs, seeds, st.booleans(), st.booleans())
def test_a_stream_of_reasoning_equals_the_whole(text: str, seed: int, is_forced: bool, is_streamed: bool):
    arguments = {"force_reasoning": is_forced, "force_nonempty_content": seed % 2 == 0}
    whole = reason_whole(Glm45Detector, text, arguments)
    rng = random.Random(seed)
    for _ in range(CUTS):
        assert reason_stream(Glm45Detector, random_pieces(text, rng), arguments, is_streamed) == whole


@quick(1500)
@given(cut_outputs)
def test_no_character_is_lost(text: str):
    for scanner in (Scanner.of_calls(), Scanner.of_reasoning(True), Scanner.of_reasoning(False)):
        assert "".join(event.raw for event in [*scanner.feed(text), *scanner.finish()]) == text


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
TYPES = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
    "number": float,
}
keys = st.text("abcxyz_0", min_size=1, max_size=4)


def type_name(value: object) -> str:
    return next(name for name, kind in TYPES.items() if type(value) is kind)


def schema_of(value: object, form: int) -> dict:
    """A schema that allows the value and, unless it is a string, no string, in one of several forms."""
    name = type_name(value)
    if form == 0:
        return {"type": name}
    if form == 1:
        return {"$ref": f"#/$defs/{name}"}
    if form == 2:
        return {"anyOf": [{"type": name}, {"allOf": [{"$ref": f"#/$defs/{name}"}]}]}
    return {"type": name, "enum": [value]}


@st.composite
def tools_and_arguments(draw) -> tuple[Tool, dict]:
    arguments = draw(st.dictionaries(keys, json_values, max_size=4))
    properties = {key: schema_of(value, draw(st.integers(0, 3))) for key, value in arguments.items()}
    defs = {name: {"type": name} for name in TYPES}
    parameters = {"type": "object", "properties": properties, "$defs": defs}
    return Tool(type="function", function={"name": "f", "parameters": parameters}), arguments


def written(arguments: dict) -> str:
    """As the chat template writes it."""
    pairs = (
        f"<arg_key>{key}</arg_key><arg_value>{value if isinstance(value, str) else json.dumps(value)}</arg_value>"
        for key, value in arguments.items()
    )
    return f"<tool_call>f{''.join(pairs)}</tool_call>"


@quick(1500)
@given(tools_and_arguments(), seeds)
def test_values_come_back_as_they_were(tool_and_arguments: tuple[Tool, dict], seed: int):
    tool, arguments = tool_and_arguments
    text = f"a {written(arguments)}\n{written(arguments)}"
    expected = (("f", arguments),) * 2
    whole = parse_whole(Glm47Detector, text, [tool])
    assert (whole.content, whole.calls) == ("a", expected)
    assert parse_stream(Glm47Detector, random_pieces(text, random.Random(seed)), [tool]) == whole


@quick(500)
@given(tools_and_arguments(), seeds)
def test_an_output_cut_anywhere_has_valid_arguments(tool_and_arguments: tuple[Tool, dict], seed: int):
    tool, arguments = tool_and_arguments
    text = written(arguments)
    rng = random.Random(seed)
    for _ in range(CUTS):
        cut = text[: rng.randrange(len(text) + 1)]
        whole = parse_whole(Glm47Detector, cut, [tool])
        assert parse_stream(Glm47Detector, random_pieces(cut, rng), [tool]) == whole
        for _, parsed in whole.calls:
            assert isinstance(parsed, dict) and parsed.keys() <= arguments.keys()


@pytest.mark.parametrize("text", ["a", "</arg_value>", "�"])
def test_text_is_cut_at_every_character(text: str):
    value = f"<tool_call>search<arg_key>query</arg_key><arg_value>é{text}😀</arg_value></tool_call>"
    whole = parse_whole(Glm47Detector, value, TOOLS)
    for at in range(len(value)):
        assert parse_stream(Glm47Detector, [value[:at], value[at:]], TOOLS) == whole

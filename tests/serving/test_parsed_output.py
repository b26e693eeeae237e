"""Texts that GLM-5.2 may write, through the whole server: the same answer streamed and not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from serving.answer import Answer, ask
from serving.scripted import says

from sglang_glm52.tiny.tokenizer import STOP_TOKENS

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "more": {"type": "object"}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


def call(name: str, **arguments: str) -> str:
    pairs = [f"<arg_key>{key}</arg_key><arg_value>{value}</arg_value>" for key, value in arguments.items()]
    return f"<tool_call>{name}{''.join(pairs)}</tool_call>"


ROME = call("weather", city="Rome", days="3")
ROME_CALL = ("weather", {"city": "Rome", "days": 3})
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, str, list, str]]] = {
    "an answer": ("Hm.</think>Hello!", {}, ("Hm.", "Hello!", [], "stop")),
    "an answer without thinking": ("Hello!", NO_THINKING, ("", "Hello!", [], "stop")),
    "thinking that never ends": ("Hm. <b", {}, ("Hm. <b", "", [], "stop")),
    "a call": (f"Hm.</think>{ROME}", {}, ("Hm.", "", [ROME_CALL], "tool_calls")),
    "text around calls": (
        f"</think>First {ROME} then {call('now')} done.",
        {},
        ("", "First then done.", [ROME_CALL, ("now", {})], "tool_calls"),
    ),
    "several calls in a row": (
        f"</think>{ROME}\n{call('weather', city='1.10')}\n{call('now')}",
        {},
        ("", "", [ROME_CALL, ("weather", {"city": "1.10"}), ("now", {})], "tool_calls"),
    ),
    "an object comes last": (
        "</think>" + call("weather", city="a<b", more='{"x": {"y": [1]}}'),
        {},
        ("", "", [("weather", {"city": "a<b", "more": {"x": {"y": [1]}}})], "tool_calls"),
    ),
    "a call while thinking": (
        f"I call {ROME} and think on.</think>Done.",
        {},
        ("I call  and think on.", "Done.", [ROME_CALL], "tool_calls"),
    ),
    "a call that ends the thinking": (f"Hm. {ROME}", {}, ("Hm. ", "", [ROME_CALL], "tool_calls")),
    "a tool that does not exist": (
        f"</think>{call('gone', a='1')}",
        {},
        ("", call("gone", a="1"), [], "stop"),
    ),
    "tools that must not be used": (f"</think>{ROME}", {"tool_choice": "none"}, ("", ROME, [], "stop")),
}


def answers(client: openai.OpenAI, text: str, **fields: Any) -> Answer:
    """The answer whose text is forced; streamed or not, it must be the same."""
    given = {"tools": TOOLS, **says(text), **fields}
    with ThreadPoolExecutor(2) as clients:  # in one batch, for speed
        whole, streamed = clients.map(lambda stream: ask(client, stream=stream, **given), (False, True))
    assert streamed == whole
    return whole


@pytest.mark.parametrize("case", CASES)
def test_an_output_is_parsed(client: openai.OpenAI, case: str) -> None:
    text, fields, (reasoning, content, calls, finish) = CASES[case]
    answer = answers(client, text, **fields)
    parsed = [(name, json.loads(arguments)) for name, arguments in answer.calls]
    assert (answer.reasoning, answer.content, parsed, answer.finish) == (reasoning, content, calls, finish)


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("Hm.</thi", "Hm.</thi", ""),
        ("Hm. <tool_ca", "Hm. <tool_ca", ""),
        ("Hm.</think>a <", "Hm.", "a <"),
        ("Hm.</think>a <tool_call>weather", "Hm.", "a <tool_call>weather"),
    ],
)
def test_text_that_looks_like_the_beginning_of_a_tag_is_not_lost(
    client: openai.OpenAI, text: str, reasoning: str, content: str
) -> None:
    assert answers(client, text) == Answer(reasoning, content, [], "stop")


@pytest.mark.parametrize(
    ("tail", "arguments"),
    [
        ("<arg_key>ci", {}),
        ("<arg_key>city</arg_key><arg_value>Ro", {"city": "Ro"}),
        ("<arg_key>city</arg_key><arg_value>Rome</arg_value>", {"city": "Rome"}),
    ],
)
def test_a_call_that_max_tokens_cuts_off_has_arguments_that_parse(
    client: openai.OpenAI, tail: str, arguments: dict[str, Any]
) -> None:
    text = "</think><tool_call>weather\n" + tail
    answer = answers(client, text, max_tokens=len(says(text)["custom_params"]["tokens"]) - 1)
    [(name, cut)] = answer.calls
    assert (name, json.loads(cut), answer.finish) == ("weather", arguments, "length")


@pytest.mark.parametrize("stop", STOP_TOKENS)
def test_a_stop_token_is_no_part_of_the_answer(client: openai.OpenAI, stop: str) -> None:
    """With tools given, the host decodes special tokens as text."""
    assert answers(client, "</think>Hi.", **says("</think>Hi.", then=stop)) == Answer("", "Hi.", [], "stop")


def test_several_choices_end_by_themselves(client: openai.OpenAI) -> None:
    given = {"messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS, "extra_body": says("Hm.</think>a <")}
    events = client.chat.completions.create(model="glm-tiny", n=2, stream=True, **given)
    content = {0: "", 1: ""}
    for choice in (choice for event in events for choice in event.choices):
        content[choice.index] += choice.delta.content or ""
    assert content == {0: "a <", 1: "a <"}

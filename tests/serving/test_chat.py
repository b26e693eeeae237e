"""The chat endpoint with the official client: answers, demanded tool calls, reasoning fields, prefixes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest
from serving.answer import MODEL, ask
from serving.scripted import says

from sglang_glm52.tiny.tokenizer import make_tokenizer, token_id

SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
        "days": {"type": "integer", "enum": [1, 30]},
        "more": {"type": "boolean"},
    },
    "required": ["unit", "days", "more"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("weather", "climate")]
NAMED = {"type": "function", "function": {"name": "climate"}}
# Random weights would think and call for ever: these end the thinking at once, and the calls as soon as the grammar
# lets them, which takes spaces and line breaks without end around a value.
NO_SPACES = {str(byte): -100 for byte in b" \n\t"}
TO_THE_POINT = {**NO_SPACES, str(token_id("</think>")): 100, str(token_id("<|endoftext|>")): 50}
THINKING = {True: {}, False: {"chat_template_kwargs": {"enable_thinking": False}}}


def prompt(client: openai.OpenAI, **fields: Any) -> str:
    """The prompt that the server made of a request."""
    body = {"return_prompt_token_ids": True, **fields}
    messages = body.pop("messages", [{"role": "user", "content": "Hi"}])
    reply = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1, extra_body=body)
    return make_tokenizer().decode(reply.choices[0].prompt_token_ids, skip_special_tokens=False)


@pytest.mark.parametrize("thinking", [True, False])
def test_an_answer_is_the_same_streamed_and_not(client: openai.OpenAI, thinking: bool) -> None:
    whole, streamed = (ask(client, stream=stream, max_tokens=12, **THINKING[thinking]) for stream in (False, True))
    assert streamed == whole and whole.finish == "length"
    assert (whole.content == "") == thinking and (whole.reasoning == "") != thinking


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_demanded_call_meets_its_schema(client: openai.OpenAI, choice: Any, stream: bool, thinking: bool) -> None:
    fields = {"tools": TOOLS, "tool_choice": choice, "logit_bias": TO_THE_POINT, **THINKING[thinking]}
    answer = ask(client, stream=stream, max_tokens=300, **fields)
    assert (answer.finish, answer.content, answer.reasoning) == ("tool_calls", "", "")
    [(name, arguments)] = answer.calls
    assert name == "climate" or choice == "required"
    jsonschema.validate(json.loads(arguments), SCHEMA)


def test_thinking_is_free_before_a_demanded_call(client: openai.OpenAI) -> None:
    answer = ask(client, stream=True, max_tokens=8, tools=TOOLS, tool_choice="required")
    assert answer.reasoning and not answer.calls and not answer.content and answer.finish == "length"


def test_a_strict_tool_is_held_to_its_schema_when_the_model_calls_it(client: openai.OpenAI) -> None:
    strict = [{"type": "function", "function": {**tool["function"], "strict": True}} for tool in TOOLS]
    bias = {**NO_SPACES, str(token_id("<tool_call>")): 100}
    answer = ask(client, stream=True, max_tokens=150, tools=strict, logit_bias=bias, **THINKING[False])
    assert answer.calls
    jsonschema.validate(json.loads(answer.calls[0][1]), SCHEMA)


HIGH, MAX, OFF = "Reasoning Effort: High", "Reasoning Effort: Max", "<think></think>"
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, MAX),
    **{f"effort {effort}": ({"reasoning_effort": effort}, HIGH) for effort in ("minimal", "low", "medium", "high")},
    **{f"effort {effort}": ({"reasoning_effort": effort}, MAX) for effort in ("xhigh", "max")},
    "effort none": ({"reasoning_effort": "none"}, OFF),
    "reasoning low": ({"reasoning": {"effort": "low"}}, HIGH),
    "reasoning xhigh": ({"reasoning": {"effort": "xhigh"}}, MAX),
    "reasoning none": ({"reasoning": {"effort": "none"}}, OFF),
    "reasoning off": ({"reasoning": {"enabled": False}}, OFF),
    "template effort": ({"chat_template_kwargs": {"reasoning_effort": "low"}}, HIGH),
    "thinking false": ({"thinking": False}, OFF),
    "thinking true": ({"thinking": True}, MAX),
    "thinking disabled": ({"thinking": {"type": "disabled"}}, OFF),
    "thinking enabled": ({"thinking": {"type": "enabled"}, "reasoning_effort": "low"}, HIGH),
    "thinking wins over effort": ({"thinking": True, "reasoning_effort": "none"}, MAX),
    "template wins over thinking": ({"thinking": True, "chat_template_kwargs": {"enable_thinking": False}}, OFF),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_reasoning_field_reaches_the_prompt(client: openai.OpenAI, case: str) -> None:
    fields, expected = FIELDS[case]
    text = prompt(client, **fields)
    assert expected in text and text.endswith(OFF if expected == OFF else "<think>"), text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reasoning_effort": "fast"}, "reasoning_effort is 'fast'; allowed: none, minimal, low, medium, high, xhigh"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort is 3; allowed: none, minimal"),
        ({"thinking": "yes"}, "thinking is 'yes'; allowed: true, false"),
        ({"thinking": {"type": "auto"}}, '"enabled"'),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs.enable_thinking is 'no'"),
    ],
)
def test_an_unknown_value_is_refused_with_those_allowed(
    client: openai.OpenAI, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        prompt(client, **fields)
    assert words in refused.value.body["message"].replace("\\'", "'")


def test_thinking_off_sends_everything_to_the_answer(client: openai.OpenAI) -> None:
    answer = ask(client, stream=True, thinking=False, **says("Hello!"))
    assert (answer.reasoning, answer.content) == ("", "Hello!")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prefix", "said", "reasoning", "content"),
    [("Let me", " think.</think>Done.", " think.", "Done."), ("I thought.</think>The answer", " is 4.", "", " is 4.")],
)
def test_a_final_message_is_continued(
    client: openai.OpenAI, stream: bool, prefix: str, said: str, reasoning: str, content: str
) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": prefix}]
    answer = ask(client, stream=stream, messages=messages, continue_final_message=True, **says(said))
    assert (answer.reasoning, answer.content) == (reasoning, content)


@pytest.mark.parametrize("stream", [False, True])
def test_content_is_not_empty_where_that_is_asked(client: openai.OpenAI, stream: bool) -> None:
    kwargs = {"force_nonempty_content": True}
    answer = ask(client, stream=stream, chat_template_kwargs=kwargs, **says("Only thoughts."))
    assert "Only thoughts." in answer.content

"""The Anthropic and the Responses endpoint, which are built on the chat endpoint."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
from serving.answer import MODEL

UNITS = ["celsius", "kelvin"]
TOOL = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"unit": {"type": "string", "enum": UNITS}},
        "required": ["unit"],
    },
}
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Hi"}],
    "extra_body": {"temperature": 0},  # a sampled token may end the answer
}


def test_an_anthropic_message_is_answered(claude: anthropic.Anthropic) -> None:
    """The host passes no option on that turns thinking off, and leaves thoughts out: a cut answer has no content."""
    answer = claude.messages.create(max_tokens=8, **ASKED)
    assert (answer.role, answer.stop_reason, answer.usage.output_tokens) == ("assistant", "max_tokens", 8)
    assert answer.content == []


def test_an_anthropic_stream_is_complete(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(max_tokens=8, tools=[TOOL], **ASKED) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 8)


def test_a_response_keeps_thoughts_and_answer_apart(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Hi", max_output_tokens=10, temperature=0)
    assert answer.status == "completed"
    assert [item.type for item in answer.output] == ["reasoning"]  # random weights do not end their thinking
    assert "</think>" not in answer.output[0].content[0].text

"""One form for the answer to a chat request, streamed or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openai

MODEL = "glm-tiny"
SERVER_FIELDS = frozenset(
    ("custom_logit_processor", "custom_params", "chat_template_kwargs", "continue_final_message", "thinking")
    + ("reasoning", "return_prompt_token_ids", "skip_special_tokens")
)


@dataclass(slots=True)
class Answer:
    """What a client has in hand when the answer is complete."""

    reasoning: str
    content: str
    calls: list[tuple[str, str]]  # name, arguments as JSON
    finish: str


def ask(client: openai.OpenAI, *, stream: bool, content: str = "Hi", **fields: Any) -> Answer:
    """Send one chat request; fields that the client's method does not know go into the body."""
    body = {name: fields.pop(name) for name in SERVER_FIELDS & fields.keys()}
    messages = fields.pop("messages", [{"role": "user", "content": content}])
    reply = client.chat.completions.create(
        model=MODEL, messages=messages, stream=stream, temperature=0, extra_body=body, **fields
    )
    return _collected(reply) if stream else _whole(reply.choices[0])


def _whole(choice: Any) -> Answer:
    message = choice.message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    return Answer(message.reasoning_content or "", message.content or "", calls, choice.finish_reason)


def _collected(events: Any) -> Answer:
    answer = Answer("", "", [], "")
    for event in events:
        for choice in event.choices:
            assert not answer.finish, f"{choice} after the finish reason"
            answer.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            answer.content += choice.delta.content or ""
            answer.finish = choice.finish_reason or ""
            for call in choice.delta.tool_calls or ():
                _add(answer.calls, call)
    return answer


def _add(calls: list[tuple[str, str]], delta: Any) -> None:
    """A call's first event has its name and id; all later ones have arguments alone."""
    if delta.index == len(calls):
        assert delta.id and delta.function.name
        calls.append((delta.function.name, ""))
    else:
        assert delta.index == len(calls) - 1 and not delta.id and not delta.function.name
    name, arguments = calls[delta.index]
    calls[delta.index] = (name, arguments + (delta.function.arguments or ""))

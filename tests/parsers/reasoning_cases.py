"""Outputs with reasoning, and what a client should get. Shared by the tests and the table of docs/parsers.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SGLANG = "https://github.com/sgl-project/sglang/issues/"
ON: Mapping[str, Any] = {"force_reasoning": True}
OFF: Mapping[str, Any] = {"force_reasoning": False}
CALL = "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningCase:
    name: str
    why: str
    text: str
    reasoning: str = ""
    content: str = ""
    arguments: Mapping[str, Any] = field(default_factory=lambda: ON)  # of the detector
    issue: str = ""
    host_fails: bool = False

    def __str__(self) -> str:
        return self.name


def _continues(previous: Any, **more: Any) -> dict[str, Any]:
    return {**ON, "continue_final_message": True, "previous_content": previous, **more}


_UNENDED = SGLANG + "37645"
REASONING_CASES = (
    ReasoningCase(
        name="thinking on", why="the common case", text="a\nb</think>\n\nc", reasoning="a\nb", content="\n\nc"
    ),
    ReasoningCase(
        name="thinking on, opened",
        host_fails=True,
        why="the tag is the prompt's to write, but may be repeated",
        text="<think>a</think>b",
        reasoning="a",
        content="b",
    ),
    ReasoningCase(name="thinking off", why="no tags", text="a < b", content="a < b", arguments=OFF),
    ReasoningCase(
        name="thinking off, reasons",
        host_fails=True,
        why="opened by the model",
        text="<think>a</think>b",
        reasoning="a",
        content="b",
        arguments=OFF,
    ),
    ReasoningCase(
        name="thinking off, end tag",
        why="the end of a reasoning that there is not",
        text="\n</think>a",
        content="a",
        arguments=OFF,
        host_fails=True,
    ),
    ReasoningCase(
        name="thinking off, quotes",
        why="prose about the tag is text",
        text="write <think> first",
        content="write <think> first",
        arguments=OFF,
        host_fails=True,
    ),
    ReasoningCase(
        name="quoted end tag",
        why="an answer may quote it",
        text="a</think>b</think>c",
        reasoning="a",
        content="b</think>c",
    ),
    ReasoningCase(name="no answer", why="nothing after the reasoning", text="a</think>", reasoning="a"),
    ReasoningCase(
        name="cut tag", why="what was held back is passed on", text="</thi", reasoning="</thi", host_fails=True
    ),
    ReasoningCase(
        name="cut answer",
        why="what was held back is passed on",
        text="a</think>b<",
        reasoning="a",
        content="b<",
        host_fails=True,
    ),
    ReasoningCase(
        name="no end",
        host_fails=True,
        why="cut by max_tokens: a trace of it remains",
        text="a b",
        reasoning="a b",
        issue=_UNENDED,
    ),
    ReasoningCase(
        name="no end, content wanted",
        why="force_nonempty_content: the answer is a copy",
        text="a b",
        reasoning="a b",
        content="a b",
        arguments={**ON, "force_nonempty_content": True},
        issue=_UNENDED,
        host_fails=True,
    ),
    ReasoningCase(
        name="content wanted and there",
        why="force_nonempty_content: nothing to do",
        text="a</think>b",
        reasoning="a",
        content="b",
        arguments={**ON, "force_nonempty_content": True},
        host_fails=True,
    ),
    ReasoningCase(name="call after", why="the common case", text=f"a</think>{CALL}", reasoning="a", content=CALL),
    ReasoningCase(
        name="call within",
        why="the call is not lost, the tag not shown",
        text=f"a{CALL}</think>",
        reasoning="a",
        content=CALL,
        host_fails=True,
    ),
    ReasoningCase(
        name="call within, answer",
        why="the call is not lost, the tag not shown",
        text=f"a{CALL}b</think>c",
        reasoning="ab",
        content=CALL + "c",
        host_fails=True,
    ),
    ReasoningCase(name="call within, no end", why="the call is not lost", text=f"a{CALL}", reasoning="a", content=CALL),
    ReasoningCase(
        name="call within, left open",
        why="the end of reasoning ends it",
        text=f"a{CALL[:-12]}</think>c",
        reasoning="a",
        content=CALL + "c",
        host_fails=True,
    ),
    ReasoningCase(
        name="call within, quotes",
        why="a value may hold any tag",
        text=f"a{CALL.replace('1', '</think>')}b",
        reasoning="ab",
        content=CALL.replace("1", "</think>"),
        host_fails=True,
    ),
    ReasoningCase(
        name="call cut", why="it goes on to the tool parser", text=f"a{CALL[:40]}", reasoning="a", content=CALL[:40]
    ),
    ReasoningCase(
        name="mere tag",
        why="prose about calls does not end reasoning",
        text="a <tool_call> b</think>c",
        reasoning="a <tool_call> b",
        content="c",
        host_fails=True,
    ),
    ReasoningCase(
        name="mere tag and name",
        why="a name alone is no call",
        text="a `<tool_call>f` b</think>c",
        reasoning="a `<tool_call>f` b",
        content="c",
        host_fails=True,
    ),
    ReasoningCase(
        name="continued answer",
        why="continue_final_message is accepted",
        text=" b",
        content=" b",
        arguments=_continues("<think>r</think>a"),
        host_fails=True,
    ),
    ReasoningCase(
        name="continued reasoning",
        why="continue_final_message is accepted",
        text="b</think>c",
        reasoning="b",
        content="c",
        arguments=_continues("<think>a", force_reasoning=False),
        host_fails=True,
    ),
    ReasoningCase(
        name="continued, second reasoning",
        why="the last think tag decides",
        text="d</think>e",
        reasoning="d",
        content="e",
        arguments=_continues("<think>a</think>b<think>c"),
        host_fails=True,
    ),
    ReasoningCase(
        name="continued, no tags",
        why="the prompt decides",
        text="b</think>c",
        reasoning="b",
        content="c",
        arguments=_continues("a"),
        host_fails=True,
    ),
    ReasoningCase(
        name="continued nothing",
        why="a message may have no content",
        text="b</think>c",
        reasoning="b",
        content="c",
        arguments=_continues(None),
        host_fails=True,
    ),
    ReasoningCase(
        name="continued parts",
        why="content may come in parts",
        text="b",
        content="b",
        arguments=_continues([{"type": "text", "text": "<think></think>a"}]),
        host_fails=True,
    ),
)

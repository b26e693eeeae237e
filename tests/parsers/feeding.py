"""Feeds one output to a parser, whole or cut, the way SGLang's server does, and collects what a client would have."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from parsers.reasoning_cases import ReasoningCase
from sglang.srt.entrypoints.openai.protocol import Tool
from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
from sglang.srt.function_call.function_call_parser import FunctionCallParser

BROKEN = "<not JSON>"  # stands for arguments that no client could parse


@dataclass(frozen=True)
class Result:
    content: str
    calls: tuple[tuple[str | None, Any], ...]  # in order of their index: name, parsed arguments
    raw: tuple[str, ...] = ()  # the arguments as sent

    @property
    def loosely(self) -> tuple:
        """For comparing with another parser: spaces count for nothing, 5 and 5.0 are equal."""
        return " ".join(self.content.split()), json.dumps(self.calls, sort_keys=True)


# Ways in which each tag arrives whole, as the one token that it is.
TAGS_WHOLE = {"whole", "one chunk", "by token", "one chunk, not streamed", "by token, not streamed"}


def ways(text: str, num_random: int = 5) -> dict[str, list[str]]:
    """How a stream may cut a text."""
    by_token = re.findall(r"</?(?:think|tool_call|arg_key|arg_value)>|.", text, re.DOTALL)
    cuts = {"one chunk": [text], "by token": by_token, "by character": list(text)}
    cuts |= {f"random {seed}": random_pieces(text, random.Random(seed)) for seed in range(num_random)}
    return cuts


def random_pieces(text: str, rng: random.Random) -> list[str]:
    longest = rng.choice((2, 4, 12, 40))
    pieces, at = [], 0
    while at < len(text):
        size = rng.randint(1, longest)
        pieces.append(text[at : at + size])
        at += size
    return pieces


def _parser(detector: type, tools: list[Tool]) -> FunctionCallParser:
    parser = FunctionCallParser(tools, "glm47")
    parser.detector = detector()
    return parser


def parse_whole(detector: type, text: str, tools: list[Tool]) -> Result:
    parser = _parser(detector, tools)
    if not parser.has_tool_call(text):
        return Result(text, ())
    content, calls = parser.parse_non_stream(text)
    raw = tuple(call.parameters for call in calls)
    return Result(content, tuple((call.name, _loads(call.parameters)) for call in calls), raw)


def parse_stream(detector: type, pieces: Iterable[str], tools: list[Tool], finishes: bool = True) -> Result:
    """Stream the pieces; `finishes` calls `finish` where the detector has one. The server's own last look follows."""
    parser = _parser(detector, tools)
    contents: list[str] = []
    names: dict[int, str | None] = {}
    arguments: dict[int, str] = {}
    for content, calls in _increments(parser, pieces, finishes):
        contents.append(content)
        for call in calls:
            if call.name:
                assert call.tool_index not in names, f"name of call {call.tool_index} sent twice"
                names[call.tool_index] = call.name
            arguments[call.tool_index] = arguments.get(call.tool_index, "") + call.parameters
    for index, missing in _unstreamed(parser):
        arguments[index] = arguments.get(index, "") + missing
    order = sorted(arguments.keys() | names.keys())
    raw = tuple(arguments.get(index, "") for index in order)
    calls = tuple((names.get(index), _loads(text)) for index, text in zip(order, raw, strict=True))
    return Result("".join(contents), calls, raw)


def _increments(parser: FunctionCallParser, pieces: Iterable[str], finishes: bool) -> Iterator[tuple[str, list]]:
    for piece in pieces:
        yield parser.parse_stream_chunk(piece)
    if finishes and hasattr(parser.detector, "finish"):
        last = parser.detector.finish(parser.tools)
        yield last.normal_text, last.calls


def _unstreamed(parser: FunctionCallParser) -> Iterator[tuple[int, str]]:
    content, request = {"meta_info": {"id": "1"}}, SimpleNamespace(model="m")
    chunk = OpenAIServingChat._check_for_unstreamed_tool_args(None, parser, content, request, 0)
    if chunk is not None:
        delta = json.loads(chunk.removeprefix("data: "))["choices"][0]["delta"]["tool_calls"][0]
        yield delta["index"], delta["function"]["arguments"]


def _loads(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return BROKEN


def reason_whole(detector: type, text: str, arguments: dict[str, Any]) -> tuple[str, str]:
    """Reasoning and content."""
    result = detector(stream_reasoning=False, **arguments).detect_and_parse(text)
    return result.reasoning_text, result.normal_text


def reason_stream(
    detector: type, pieces: Iterable[str], arguments: dict[str, Any], stream_reasoning: bool = True
) -> tuple[str, str]:
    instance = detector(stream_reasoning=stream_reasoning, **arguments)
    results = [instance.parse_streaming_increment(piece) for piece in pieces]
    if hasattr(instance, "finish"):
        results.append(instance.finish())
    return "".join(r.reasoning_text for r in results), "".join(r.normal_text for r in results)


def reasoning_results(detector: type, case: ReasoningCase) -> dict[str, tuple[str, str] | str]:
    """What each way of feeding gives; the text of the error if the detector refuses the arguments."""
    arguments = dict(case.arguments)
    try:
        results: dict[str, Any] = {"whole": reason_whole(detector, case.text, arguments)}
    except TypeError as error:
        return {"whole": str(error)}
    for way, pieces in ways(case.text).items():
        results[way] = reason_stream(detector, pieces, arguments)
        results[f"{way}, not streamed"] = reason_stream(detector, pieces, arguments, stream_reasoning=False)
    return results

"""Tell the tool call detector that the output has ended.

The host assumes that a detector has nothing left when the last token has come: it adds the arguments that the last
call still lacks, and never asks the detector again. Text that was held back as the possible beginning of a call is lost
then, a call's name that the output ends in included. The rest is sent through the host's own generator, with a stand-in
for the parser, so that ids, usage and framing are made in one place. Read in 0.5.13.post1
(`entrypoints/openai/serving_chat.py`, `_process_tool_call_stream`). Without the hook a streamed answer that ends in "<"
or within a call is not the one that is given when it is not streamed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from sglang.srt.function_call.core_types import StreamingParseResult, ToolCallItem
from sglang.srt.function_call.function_call_parser import FunctionCallParser

from sglang_glm52.parsers.tool_call_glm47 import Glm47Detector

if TYPE_CHECKING:
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest
    from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat


async def finish_tool_calls(
    original: Callable[..., AsyncIterator[str]],
    self: OpenAIServingChat,
    index: int,
    delta: str,
    parser_dict: dict[int, FunctionCallParser],
    content: Mapping[str, Any],
    request: ChatCompletionRequest,
    has_tool_calls: dict[int, bool],
    continuous_usage_stats: bool = False,
) -> AsyncIterator[str]:
    """AROUND `OpenAIServingChat._process_tool_call_stream`: the events of one chunk."""
    rest = (content, request, has_tool_calls, continuous_usage_stats)
    async for event in original(self, index, delta, parser_dict, *rest):
        yield event
    parser = parser_dict[index]
    is_ours = isinstance(parser, FunctionCallParser) and isinstance(parser.detector, Glm47Detector)
    if content["meta_info"].get("finish_reason") is None or not is_ours:
        return
    tail = parser.detector.finish(request.tools)
    if tail.normal_text or tail.calls:
        async for event in original(self, index, "", {index: _Tail(tail)}, *rest):
            yield event


class _Tail:
    """Stands in for a parser: whatever the chunk, it has parsed `result`."""

    def __init__(self, result: StreamingParseResult) -> None:
        self._result = result

    def parse_stream_chunk(self, _chunk: str) -> tuple[str, list[ToolCallItem]]:
        return self._result.normal_text, self._result.calls

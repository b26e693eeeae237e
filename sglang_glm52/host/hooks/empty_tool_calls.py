"""No finish reason "tool_calls" without a tool call.

The host assumes that every text in which its detector sees a call yields one: for an answer that is not streamed it
sets the finish reason before it parses. A call of a tool that the request does not offer stays text, and the client is
then told to run calls that it was not given; streamed, the same output ends with "stop". Wrapped here because the
finish reason is overwritten in place, so that only a copy taken before still has it. Read in 0.5.13.post1
(`entrypoints/openai/serving_chat.py`, `_process_tool_calls`). Without the hook agents wait for, or loop on, calls that
do not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sglang.srt.entrypoints.openai.protocol import ToolCallProcessingResult
    from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat


def keep_finish_reason(
    original: Callable[..., ToolCallProcessingResult],
    self: OpenAIServingChat,
    text: str,
    tools: list[Any],
    finish_reason: dict[str, Any],
    *args: Any,
    **kwargs: Any,
) -> ToolCallProcessingResult:
    """AROUND `OpenAIServingChat._process_tool_calls`."""
    before = dict(finish_reason)
    result = original(self, text, tools, finish_reason, *args, **kwargs)
    if self.tool_call_parser == "glm47" and not result.tool_calls:
        return result._replace(tool_calls=None, finish_reason=before)
    return result

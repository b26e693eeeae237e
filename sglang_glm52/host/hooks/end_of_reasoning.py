"""Tell the reasoning detector that the output has ended.

The host assumes that a detector has nothing left when the last token has come: it calls it once a chunk and never
again. A detector has to hold back what may be the beginning of a tag, so an output that ends there (at `max_tokens`, or
in a lone "<") loses that text when it is streamed. Wrapped here because this is the one place that sees both the
detector and the chunk that carries the finish reason, and because the text it returns goes on to the tool parser, as
any other text does. Read in 0.5.13.post1 (`entrypoints/openai/serving_chat.py`, `_process_reasoning_stream`). Without
the hook the end of a streamed output can be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sglang_glm52.parsers.reasoning_glm45 import Glm45Detector

if TYPE_CHECKING:
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest
    from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
    from sglang.srt.parser.reasoning_parser import ReasoningParser


def finish_reasoning(
    original: Callable[..., tuple[str | None, str]],
    self: OpenAIServingChat,
    index: int,
    delta: str,
    reasoning_parser_dict: dict[int, ReasoningParser],
    content: Mapping[str, Any],
    request: ChatCompletionRequest,
) -> tuple[str | None, str]:
    """AROUND `OpenAIServingChat._process_reasoning_stream`: (reasoning, text for the tool parser) of one chunk."""
    reasoning, text = original(self, index, delta, reasoning_parser_dict, content, request)
    detector = reasoning_parser_dict[index].detector
    if content["meta_info"].get("finish_reason") is None or not isinstance(detector, Glm45Detector):
        return reasoning, text
    rest = detector.finish()
    return (reasoning or "") + rest.reasoning_text, (text or "") + rest.normal_text

"""Split reasoning from the answer in the Responses API.

The host assumes that a detector knows by itself whether the prompt opened the reasoning: the chat handler tells it, the
Responses handler does not. GLM-5.2's template ends the prompt with `<think>`, and the Responses handler always asks it
for thinking, so the output begins within reasoning. Wrapped here because this is the only call, and because the tag
that the prompt ends with is all that is missing. Read in 0.5.13.post1 (`entrypoints/openai/serving_responses.py`,
`_make_response_output_items`). Without the hook the reasoning and `</think>` stand in the answer's text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sglang_glm52.arch import is_glm52

if TYPE_CHECKING:
    from sglang.srt.entrypoints.openai.protocol import ResponsesRequest
    from sglang.srt.entrypoints.openai.serving_responses import OpenAIServingResponses


def open_reasoning(
    original: Callable[..., list[Any]],
    self: OpenAIServingResponses,
    request: ResponsesRequest,
    final_output: str,
    tokenizer: Any,
) -> list[Any]:
    """AROUND `OpenAIServingResponses._make_response_output_items`."""
    if self.reasoning_parser == "glm45" and is_glm52(self.tokenizer_manager.model_config.hf_config):
        final_output = "<think>" + final_output
    return original(self, request, final_output, tokenizer)

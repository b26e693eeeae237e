"""Refuse to answer chat requests for GLM-5.2 in a process where this plugin is not wholly in effect.

The host assumes that a hook which failed to apply can be left out: it logs the failure and goes on. The model's own
guard stops such a process, but the process that answers HTTP requests builds no model, and that is the one which
parses reasoning and tool calls. Hooked here because chat, Responses and Anthropic requests all go through this class.
Read in 0.5.13.post1 (`entrypoints/openai/serving_chat.py`, `OpenAIServingChat`). Without the hook another plugin that
overwrites a parser is not noticed; if this plugin itself fails, no hook is here either, and the model's guard refuses.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sglang_glm52.arch import is_glm52
from sglang_glm52.host.guard import require_host

if TYPE_CHECKING:
    from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
    from sglang.srt.managers.template_manager import TemplateManager
    from sglang.srt.managers.tokenizer_manager import TokenizerManager

_require_host_once = cache(require_host)  # chat and Responses each build a handler; one line in the log will do


def guard_chat(
    self: OpenAIServingChat,
    tokenizer_manager: TokenizerManager,
    template_manager: TemplateManager,
) -> None:
    """BEFORE `OpenAIServingChat.__init__`."""
    if is_glm52(tokenizer_manager.model_config.hf_config):
        _require_host_once()

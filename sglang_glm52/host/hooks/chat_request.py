"""Reasoning fields of a chat request, in every spelling that clients use.

The host assumes five levels of `reasoning_effort`, ignores `thinking`, and leaves the meaning of a level to the chat
template. GLM-5.2's template knows "high" alone and takes anything else, "low" included, for the highest effort. Here
every spelling becomes one of the host's own before the host reads the request:

- effort, from `chat_template_kwargs.reasoning_effort`, else `reasoning.effort`, else `reasoning_effort`: "minimal",
  "low", "medium" and "high" are high; "xhigh" and "max" are the highest; "none" turns thinking off.
- thinking, from `chat_template_kwargs.enable_thinking` or `.thinking`, else `thinking` (true, false, or an object whose
  `type` is "enabled" or "disabled"), else `reasoning.enabled`, else off if the effort is "none".

Anything else is answered with 400 and the values allowed. The class is replaced by a subclass because the fields are
checked before any function of the host runs; requests to other models pass through unread. Read in 0.5.13.post1
(`entrypoints/openai/protocol.py`, `ChatCompletionRequest`). Without the hook "low" means the highest effort, "minimal"
and "xhigh" are refused, and `thinking` does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator
from sglang.srt import server_args
from sglang.srt.entrypoints.openai import protocol

from sglang_glm52.arch import is_glm52

_EFFORTS = {
    "none": "none",
    "minimal": "high",
    "low": "high",
    "medium": "high",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_SWITCHES = {"enabled": True, "disabled": False}
_ALLOWED = 'true, false, {"type": "enabled"}, {"type": "disabled"}'


class ChatCompletionRequest(protocol.ChatCompletionRequest):  # the host's name is in its OpenAPI document
    """REPLACE `ChatCompletionRequest`."""

    @model_validator(mode="before")
    @classmethod
    def _translate_reasoning(cls, values: Any) -> Any:
        return _translate(values) if isinstance(values, dict) and _serves_glm52() else values


def _serves_glm52() -> bool:
    try:
        args = server_args.get_global_server_args()
    except ValueError:  # a request built outside a server
        return False
    return is_glm52(args.get_model_config().hf_config)


def _translate(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with at most the host's `reasoning_effort` and `chat_template_kwargs.enable_thinking` left."""
    template, reasoning = _object(values, "chat_template_kwargs"), _object(values, "reasoning")
    effort, thinking = _effort(values, template, reasoning), _thinking(values, template, reasoning)
    if effort == "none":
        effort, thinking = None, bool(thinking)
    for key in ("reasoning_effort", "thinking", "enable_thinking"):
        template.pop(key, None)
    if thinking is not None:
        template["enable_thinking"] = thinking
    done = {key: value for key, value in values.items() if key not in ("reasoning", "thinking", "reasoning_effort")}
    return {**done, "reasoning_effort": effort, "chat_template_kwargs": template or None}


def _object(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{key} is {value!r}; it must be an object")
    return dict(value or {})


def _effort(values: Mapping[str, Any], template: Mapping[str, Any], reasoning: Mapping[str, Any]) -> str | None:
    for name, value in (
        ("chat_template_kwargs.reasoning_effort", template.get("reasoning_effort")),
        ("reasoning.effort", reasoning.get("effort")),
        ("reasoning.reasoning_effort", reasoning.get("reasoning_effort")),
        ("reasoning_effort", values.get("reasoning_effort")),
    ):
        if value is None:
            continue
        if not isinstance(value, str) or value not in _EFFORTS:
            raise ValueError(f"{name} is {value!r}; allowed: {', '.join(_EFFORTS)}")
        return _EFFORTS[value]
    return None


def _thinking(values: Mapping[str, Any], template: Mapping[str, Any], reasoning: Mapping[str, Any]) -> bool | None:
    for name, value in (
        ("chat_template_kwargs.enable_thinking", template.get("enable_thinking")),
        ("chat_template_kwargs.thinking", template.get("thinking")),
        ("thinking", values.get("thinking")),
        ("reasoning.enabled", reasoning.get("enabled")),
        ("reasoning.enable", reasoning.get("enable")),
    ):
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(value, bool):
            return value
        if isinstance(kind, str) and kind in _SWITCHES:
            return _SWITCHES[kind]
        if value is not None:
            raise ValueError(f"{name} is {value!r}; allowed: {_ALLOWED}")
    return None

"""Hooks of the process that answers requests: what they refuse, and that other models and parsers are left alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest
from sglang.srt import server_args
from sglang.srt.entrypoints.openai.protocol import ToolCallProcessingResult
from sglang.srt.parser.reasoning_parser import ReasoningParser

from sglang_glm52.errors import ConfigError, HostMismatchError
from sglang_glm52.host.hooks.chat_request import ChatCompletionRequest
from sglang_glm52.host.hooks.empty_tool_calls import keep_finish_reason
from sglang_glm52.host.hooks.end_of_reasoning import finish_reasoning
from sglang_glm52.host.hooks.end_of_tool_calls import finish_tool_calls
from sglang_glm52.host.hooks.responses_reasoning import open_reasoning
from sglang_glm52.host.hooks.serving_guard import guard_chat
from sglang_glm52.host.hooks.tokenizer_workers import refuse_tokenizer_workers
from sglang_glm52.host.state import STATE

GLM, LLAMA = "glm_moe_dsa", "llama"
LAST = {"meta_info": {"finish_reason": {"type": "stop"}}}


def model_config(model_type: str) -> Any:
    return SimpleNamespace(hf_config=SimpleNamespace(model_type=model_type))


def args(model_type: str, **fields: Any) -> Any:
    return SimpleNamespace(get_model_config=lambda: model_config(model_type), **fields)


def request(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "Hi"}], **fields)


def test_tokenizer_workers_are_refused_for_glm_alone():
    with pytest.raises(ConfigError, match="--tokenizer-worker-num 2"):
        refuse_tokenizer_workers(args(GLM, tokenizer_worker_num=2))
    refuse_tokenizer_workers(args(GLM, tokenizer_worker_num=1))
    refuse_tokenizer_workers(args(LLAMA, tokenizer_worker_num=2))


def test_a_process_without_the_plugin_answers_no_chat_for_glm(monkeypatch):
    monkeypatch.setattr(STATE, "is_registered", False)
    guard_chat(None, SimpleNamespace(model_config=model_config(LLAMA)), None)
    with pytest.raises(HostMismatchError, match="was not loaded in this process"):
        guard_chat(None, SimpleNamespace(model_config=model_config(GLM)), None)


@pytest.mark.parametrize("serving", [None, args(LLAMA)], ids=["no server", "llama"])
def test_a_request_to_another_model_is_the_hosts(monkeypatch, serving):
    monkeypatch.setattr(server_args, "_global_server_args", serving)
    assert request(reasoning_effort="low", thinking=False).reasoning_effort == "low"
    assert request(thinking=False).chat_template_kwargs is None
    with pytest.raises(pydantic.ValidationError, match="'none', 'low', 'medium', 'high' or 'max'"):
        request(reasoning_effort="xhigh")


def test_a_request_to_glm_is_translated_and_its_body_is_not_changed(monkeypatch):
    monkeypatch.setattr(server_args, "_global_server_args", args(GLM))
    kwargs = {"clear_thinking": False, "reasoning_effort": "minimal"}
    read = request(chat_template_kwargs=kwargs, thinking={"type": "disabled"}, reasoning={"effort": "max"})
    assert read.reasoning_effort == "high"
    assert read.chat_template_kwargs == {"clear_thinking": False, "enable_thinking": False}
    assert kwargs == {"clear_thinking": False, "reasoning_effort": "minimal"}
    assert request().chat_template_kwargs is None and request().reasoning_effort is None


def test_the_document_of_the_api_keeps_the_hosts_name():
    assert ChatCompletionRequest.model_json_schema()["title"] == "ChatCompletionRequest"


def test_another_models_reasoning_is_not_finished():
    parsers = {0: ReasoningParser("deepseek-r1")}
    ours = finish_reasoning(lambda *_: (None, "text"), None, 0, "text", parsers, LAST, None)
    assert ours == (None, "text")


def test_another_models_tool_calls_are_not_finished():
    async def original(*_: Any) -> Any:
        yield "event"

    async def events() -> list[str]:
        parsers = {0: SimpleNamespace(detector=None)}
        return [event async for event in finish_tool_calls(original, None, 0, "", parsers, LAST, None, {})]

    assert asyncio.run(events()) == ["event"]


@pytest.mark.parametrize(("parser", "finish"), [("glm47", "stop"), ("hermes", "tool_calls")])
def test_the_finish_reason_of_another_parser_is_kept(parser, finish):
    def original(_self: Any, text: str, _tools: Any, finish_reason: dict[str, Any]) -> ToolCallProcessingResult:
        finish_reason["type"] = "tool_calls"
        return ToolCallProcessingResult([], text, finish_reason)

    result = keep_finish_reason(original, SimpleNamespace(tool_call_parser=parser), "text", [], {"type": "stop"})
    assert result.finish_reason["type"] == finish and result.remaining_text == "text"


@pytest.mark.parametrize(
    ("parser", "model_type", "text"),
    [("glm45", GLM, "<think>a</think>b"), ("glm45", LLAMA, "a</think>b"), (None, GLM, "a</think>b")],
)
def test_reasoning_is_opened_for_the_responses_of_glm_alone(parser, model_type, text):
    manager = SimpleNamespace(model_config=model_config(model_type))
    handler = SimpleNamespace(reasoning_parser=parser, tokenizer_manager=manager)
    assert open_reasoning(lambda _self, _request, output, _: output, handler, None, "a</think>b", None) == text

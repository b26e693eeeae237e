from __future__ import annotations

import pytest
from sglang.srt.managers.template_detection import detect_reasoning_parser, detect_reasoning_pattern
from transformers import AutoTokenizer

from sglang_glm52.tiny.tokenizer import write_tokenizer

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"function": {"name": "add", "arguments": {"a": "1", "b": 2, "c": [True, None], "d": {"é": "x"}}}}
CALL_TEXT = (
    "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>2</arg_value>"
    "<arg_key>c</arg_key><arg_value>[true, null]</arg_value>"
    '<arg_key>d</arg_key><arg_value>{"é": "x"}</arg_value></tool_call>'
)
START = "[gMASK]<sop><|system|>Reasoning Effort: Max"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def render(tokenizer):
    def render(messages, **options):
        options = {"add_generation_prompt": False} | options
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)

    return render


@pytest.mark.parametrize(
    ("options", "start", "end"),
    [
        ({}, START, "<think>"),
        ({"enable_thinking": True}, START, "<think>"),
        ({"enable_thinking": False}, "[gMASK]<sop>", "<think></think>"),
        ({"reasoning_effort": "high"}, "[gMASK]<sop><|system|>Reasoning Effort: High", "<think>"),
        ({"reasoning_effort": "max"}, START, "<think>"),
        ({"reasoning_effort": "low"}, START, "<think>"),
        ({"reasoning_effort": "none"}, "[gMASK]<sop>", "<think></think>"),
        ({"reasoning_effort": "none", "enable_thinking": True}, "[gMASK]<sop>", "<think></think>"),
        ({"reasoning_effort": "high", "enable_thinking": False}, "[gMASK]<sop>", "<think></think>"),
    ],
)
def test_reasoning(render, options, start, end):
    assert render([USER], add_generation_prompt=True, **options) == f"{start}<|user|>hi<|assistant|>{end}"


def test_system_prompt_and_content_parts(render):
    messages = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a "}, {"type": "image_url"}, {"type": "text", "text": "b"}],
        },
    ]
    assert render(messages) == f"{START}<|system|>be brief<|user|>a b"


def test_reasoning_of_finished_turns_is_left_out_unless_it_shall_stay(render):
    messages = [USER, {"role": "assistant", "content": "\nyes\n", "reasoning_content": " why "}, USER]
    assert render(messages) == f"{START}<|user|>hi<|assistant|><think></think>yes<|user|>hi"
    kept = f"{START}<|user|>hi<|assistant|><think>why</think>yes<|user|>hi"
    assert render(messages, clear_thinking=False) == kept
    inline = [USER, {"role": "assistant", "content": "<think>why</think>yes"}, USER]
    assert render(inline, clear_thinking=False) == kept


def test_tool_call_and_results_in_the_last_turn_keep_their_reasoning(render):
    messages = [
        USER,
        {"role": "assistant", "content": None, "reasoning_content": "sum", "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "3"},
        {"role": "tool", "content": "4"},
    ]
    turn = f"<|assistant|><think>sum</think>{CALL_TEXT}{CALL_TEXT}"
    results = "<|observation|><tool_response>3</tool_response><tool_response>4</tool_response>"
    assert render(messages) == f"{START}<|user|>hi{turn}{results}"


def test_tools_are_listed_as_json_before_the_conversation(render):
    text = render([{"role": "system", "content": "S"}, USER], tools=[TOOL, TOOL])
    declared = '<tools>\n{"name": "add", "parameters": {"type": "object"}}\n'
    assert declared in text and text.count('"name": "add"') == 2
    assert text.startswith(f"{START}<|system|>") and text.endswith("<|system|>S<|user|>hi")


def test_prompts_are_made_of_added_tokens_and_bytes(tokenizer, render):
    text = render([USER], add_generation_prompt=True)
    names = tokenizer.convert_ids_to_tokens(tokenizer.encode(text))
    assert names[:3] == ["[gMASK]", "<sop>", "<|system|>"] and names[-2:] == ["<|assistant|>", "<think>"]


def test_the_host_recognises_that_reasoning_is_on_by_default(tokenizer):
    always, toggle = detect_reasoning_pattern(tokenizer.chat_template)
    assert not always and (toggle.toggle_param, toggle.default_enabled) == ("enable_thinking", True)
    assert detect_reasoning_parser(tokenizer.chat_template, tokenizer, toggle, always) == "glm45"

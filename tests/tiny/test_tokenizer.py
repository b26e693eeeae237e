from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_config import published
from transformers import AutoTokenizer

from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import ADDED_TOKENS, STOP_TOKENS, VOCAB_SIZE, make_tokenizer, token_id

TOKENIZER = make_tokenizer()
TOOL_CALL = "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return build(tmp_path_factory.mktemp("model") / "m", overrides={"num_hidden_layers": 2})


@given(st.text())
def test_every_text_is_its_bytes(text):
    ids = TOKENIZER.encode(text).ids
    if not any(token in text for token in ADDED_TOKENS):
        assert ids == list(text.encode())
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("token", ADDED_TOKENS)
def test_an_added_token_is_one_id(token):
    assert TOKENIZER.encode(f"a{token}b").ids == [ord("a"), token_id(token), ord("b")]


def test_ids_are_the_published_ones_less_a_constant():
    shift = token_id("<|endoftext|>") - published()["pad_token_id"]
    assert [token_id(name) - shift for name in STOP_TOKENS] == published()["eos_token_id"]


def test_tags_that_parsers_read_stay_in_the_text():
    text = f"<|assistant|><think>hm</think>ok{TOOL_CALL}<|user|>"
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == f"<think>hm</think>ok{TOOL_CALL}"


def test_the_vocabulary_has_room_and_splits_over_ranks():
    assert VOCAB_SIZE % 64 == 0 and TOKENIZER.get_vocab_size() <= VOCAB_SIZE


def test_transformers_loads_it(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == token_id("<|endoftext|>")
    assert tokenizer.encode("hé<think>") == [*"hé".encode(), token_id("<think>")]
    assert tokenizer.decode([token_id("<|user|>"), token_id("<tool_call>")], skip_special_tokens=True) == "<tool_call>"
    stops = json.loads((checkpoint / "config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_ids_to_tokens(stops) == list(STOP_TOKENS)

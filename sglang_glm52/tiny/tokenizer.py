"""A byte-level tokenizer with GLM's added tokens: one token a byte, so every text has an exact encoding."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

# GLM's added tokens in the published order, so that an id is the published one less a constant. `special` tokens are
# left out of decoded text; reasoning and tool tags are text, because parsers read them.
_SPECIAL_HEAD = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
    *("<|begin_of_audio|>", "<|end_of_audio|>", "<|begin_of_transcription|>", "<|end_of_transcription|>"),
    *("<|code_prefix|>", "<|code_middle|>", "<|code_suffix|>"),
)
_TEXT = (
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    *("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
)
_SPECIAL_TAIL = ("/nothink",)
_TEXT_TAIL = ("<|begin_of_box|>", "<|end_of_box|>", "<|image|>", "<|video|>")
ADDED_TOKENS = _SPECIAL_HEAD + _TEXT + _SPECIAL_TAIL + _TEXT_TAIL
SPECIAL_TOKENS = _SPECIAL_HEAD + _SPECIAL_TAIL
STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")
NUM_BYTES = 256
VOCAB_SIZE = -(-(NUM_BYTES + len(ADDED_TOKENS)) // 64) * 64  # a multiple of 64, as vocabularies split over ranks are


def token_id(name: str) -> int:
    """Id of an added token: they follow the bytes."""
    return NUM_BYTES + ADDED_TOKENS.index(name)


def make_tokenizer() -> Tokenizer:
    """Byte b has id b; added tokens come after."""
    alphabet = {char: byte for byte, char in enumerate(_byte_alphabet())}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(name, special=name in SPECIAL_TOKENS, normalized=False) for name in ADDED_TOKENS])
    return tokenizer


def write_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    make_tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "extra_special_tokens": list(SPECIAL_TOKENS),
        "model_max_length": 1_048_576,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(Path(__file__).with_name("chat_template.jinja").read_text())


def _byte_alphabet() -> list[str]:
    """The character that byte-level BPE writes for each byte: itself if printable, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(NUM_BYTES)]

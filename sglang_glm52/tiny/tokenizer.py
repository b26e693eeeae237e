"""A byte-level tokenizer with GLM's special tokens: one token a byte, so every text has an exact encoding."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

# Not shown in decoded text.
CONTROL_TOKENS = (
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
# Single tokens too, but text that parsers read.
TEXT_TOKENS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
)
STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")
NUM_BYTES = 256
VOCAB_SIZE = 320  # bytes and special tokens, rounded up to a multiple of 64


def token_id(name: str) -> int:
    """Id of a special token: they follow the bytes."""
    return NUM_BYTES + (CONTROL_TOKENS + TEXT_TOKENS).index(name)


def make_tokenizer() -> Tokenizer:
    """Byte b has id b; special tokens come after."""
    alphabet = {char: byte for byte, char in enumerate(_byte_alphabet())}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in TEXT_TOKENS])
    return tokenizer


def write_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    make_tokenizer().save(str(folder / "tokenizer.json"))
    template = Path(__file__).with_name("chat_template.jinja").read_text()
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(CONTROL_TOKENS[1:]),
        "model_max_length": 1_048_576,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(template)


def _byte_alphabet() -> list[str]:
    """The character that byte-level BPE writes for each byte: itself if printable, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(NUM_BYTES)]

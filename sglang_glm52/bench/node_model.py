"""A model folder without weights for a real server: the published config.json and a tokenizer of its vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

from sglang_glm52.bench.shard_config import DIVIDED, NUM_LAYERS, PUBLISHED, rank_shard


def published_config(num_layers: int = NUM_LAYERS) -> dict[str, Any]:
    """config.json of GLM-5.2 in W4AFP8, undivided, cut to the first `num_layers` layers."""
    return rank_shard("w4afp8", num_layers) | {field: PUBLISHED[field] for field in DIVIDED}


def has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def write_unweighted(folder: Path, config: dict[str, Any]) -> Path:
    """Write config.json and a tokenizer for it, to be served with --load-format dummy."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    write_tokenizer(folder, config["vocab_size"])
    return folder


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """One word an id.

    SGLang's client draws prompts from the tokenizer's whole vocabulary, so that all rows of the embeddings are used and
    no two prompts begin alike, and counts a token when it brings text.
    """
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab_size)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))

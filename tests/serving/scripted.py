"""Make the server say a given text: a logit processor that it loads by name, and the request fields that ask for it.

A random model says nothing a parser could be tested on. The text goes through the whole server as if the model had
chosen it: sampling, detokenising, streaming, parsing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor

from sglang_glm52.tiny.tokenizer import make_tokenizer, token_id

SERVER_OPTIONS = ("--enable-custom-logit-processor",)
_PATHS = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
SERVER_ENVIRON = {"PYTHONPATH": os.pathsep.join(filter(None, _PATHS))}  # where the server finds this module


class Script(CustomLogitProcessor):
    """Allows one token at each step: the next of `custom_params["tokens"]`, and then the last again."""

    def __call__(self, logits: torch.Tensor, custom_param_list: list[dict[str, Any]] | None = None) -> torch.Tensor:
        forced = torch.full_like(logits, float("-inf"))
        for row, params in zip(forced, custom_param_list or (), strict=True):
            step = params.get("step", 0)
            params["step"] = step + 1  # of this request alone: its dictionary lives as long as it does
            row[params["tokens"][min(step, len(params["tokens"]) - 1)]] = 0.0
        return forced


def says(text: str, *, then: str = "<|endoftext|>") -> dict[str, Any]:
    """Fields of a request whose answer is `text`, ended by the stop token `then`."""
    tokens = [*make_tokenizer().encode(text, add_special_tokens=False).ids, token_id(then)]
    return {"custom_logit_processor": Script.to_str(), "custom_params": {"tokens": tokens}}

"""A checkpoint that is drawn while it is loaded is the one that `build` writes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sglang.srt.model_loader.utils import set_default_torch_dtype

from sglang_glm52.testing.drawn_model import drawn_tensors, write_drawn
from sglang_glm52.testing.engine import Job, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE

SEED, ACCEPTANCE = 3, 0.6
SHORT = {"num_hidden_layers": 5}


@pytest.mark.parametrize("fmt", ["bf16", "fp8", "w4afp8"])
def test_the_tensors_are_those_of_the_files(fmt: str, tmp_path: Path) -> None:
    built = build(tmp_path / "built", "cpu", fmt, SEED, SHORT, ACCEPTANCE)
    drawn = write_drawn(tmp_path / "drawn", "cpu", fmt, SEED, SHORT, ACCEPTANCE)
    want = {name: each for file in built.glob("*.safetensors") for name, each in load_file(file).items()}
    with set_default_torch_dtype(torch.bfloat16):  # as SGLang loads
        got = dict(drawn_tensors(drawn, "cpu"))
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype and torch.equal(got[name].float(), tensor.float()), name


def test_an_engine_answers_as_with_the_files(tmp_path: Path) -> None:
    """With the draft model of speculation, which is loaded the same way."""
    rng = random.Random(1)
    job = Job([[rng.randrange(256) for _ in range(length)] for length in (9, 130)], 12, vocab_size=VOCAB_SIZE)
    settings = {
        "device": "cpu",
        "dtype": "float32",
        "max_total_tokens": 2048,
        "speculative_algorithm": "EAGLE",
        "speculative_num_steps": 1,
        "speculative_eagle_topk": 1,
        "speculative_num_draft_tokens": 2,
    }
    folders = (
        build(tmp_path / "built", "cpu", "bf16", SEED, SHORT, ACCEPTANCE),
        write_drawn(tmp_path / "drawn", "cpu", "bf16", SEED, SHORT, ACCEPTANCE),
    )
    [want], [got] = (run_engine(folder, [job], **settings) for folder in folders)
    for a, b in zip(got, want, strict=True):
        assert a.output_ids == b.output_ids and (a.draft_rounds, a.correct_drafts) == (b.draft_rounds, b.correct_drafts)
        assert np.array_equal(a.output_logprobs, b.output_logprobs) and a.correct_drafts > 0

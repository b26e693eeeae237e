"""Sampled tokens of a real engine with drafts are distributed as the target model says: chi-square over its outputs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import torch
from speculative.drafting import OVERRIDES, build_model, serve

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.testing.engine import Job
from sglang_glm52.tiny.presets import make_config
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE
from sglang_glm52.tiny.weights import make_values

ACCEPTANCE, NUM_STEPS = 0.6, 3
REQUESTS, NUM_NEW = 3000, 3  # the first token comes from the prefill, the others from verified drafts
TEMPERATURE = 10.0  # the likeliest token leads by some 15 nats
PROMPT = [72, 101, 108, 108, 111]
SIGNIFICANCE = 1e-4


def allowed_tokens() -> list[int]:
    """Three in a row that the MTP layer drafts rightly, so that all drafts of a request may be kept."""
    code = make_values(Glm52Arch.from_config(make_config("cpu", OVERRIDES)), 0, ACCEPTANCE).code
    for first in range(VOCAB_SIZE):
        chain = [first, code.successor[first], code.successor[code.successor[first]]]
        if not code.misled & set(chain) and code.decoy not in chain:
            return chain
    raise AssertionError("no such tokens: another acceptance is needed")


def test_outputs_are_distributed_as_the_target_says(tmp_path: Path) -> None:
    tokens = allowed_tokens()
    pasts = [past for length in range(NUM_NEW) for past in itertools.product(tokens, repeat=length)]
    exact = Job([PROMPT + list(past) for past in pasts], max_new_tokens=1, score_from=-1, vocab_size=VOCAB_SIZE)
    bias = {str(token): 1000.0 for token in tokens}
    sampling = {"temperature": TEMPERATURE, "logit_bias": bias}
    sampled = Job([PROMPT] * REQUESTS, max_new_tokens=NUM_NEW, score_from=-1, sampling=sampling)
    of_past, outputs = serve(build_model(tmp_path, ACCEPTANCE), [exact, sampled], NUM_STEPS)

    def next_probs(past: tuple[int, ...]) -> dict[int, float]:
        logprobs = of_past[pasts.index(past)].output_logprobs[0]
        weights = {token: math.exp(logprobs[token] / TEMPERATURE) for token in tokens}
        return {token: weight / sum(weights.values()) for token, weight in weights.items()}

    expected = {
        text: REQUESTS * math.prod(next_probs(text[:i])[token] for i, token in enumerate(text))
        for text in itertools.product(tokens, repeat=NUM_NEW)
    }
    counts = Counter(tuple(run.output_ids) for run in outputs)
    assert set(counts) <= set(expected)
    assert sum(run.correct_drafts for run in outputs) > REQUESTS / 10
    statistic = torch.tensor(sum((counts[text] - n) ** 2 / n for text, n in expected.items()))
    p_value = torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), statistic / 2)
    assert p_value > SIGNIFICANCE, f"chi-square {statistic:.1f} over {len(expected)} texts"

"""A random checkpoint must behave like a model, or comparing two implementations of it proves little."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from reference.client import reference_logprobs

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.tiny import build
from sglang_glm52.tiny.presets import make_config
from sglang_glm52.tiny.tokenizer import STOP_TOKENS, token_id
from sglang_glm52.tiny.values import PRINTABLE, Values


@pytest.fixture(scope="module")
def logprobs(tmp_path_factory) -> np.ndarray:
    """[512, vocab_size] of a random text eight times as long as `index_topk`."""
    folder = tmp_path_factory.mktemp("behaviour")
    rng = random.Random(0)
    prompt = [rng.choice(PRINTABLE) for _ in range(512)]
    return reference_logprobs(build(folder / "model"), [prompt], folder)[0]


def test_the_distribution_is_neither_flat_nor_saturated(logprobs):
    probs = np.exp(logprobs)
    entropy = -(probs * logprobs).sum(-1)
    assert 2.0 < entropy.mean() < 4.5  # nats; flat would be log(320) = 5.8
    assert entropy.min() > 0.5
    assert probs.max(-1).mean() < 0.5


def test_what_comes_next_depends_on_the_text(logprobs):
    assert len(set(logprobs.argmax(-1).tolist())) > 50


def test_replies_are_mostly_text_and_end_rarely(logprobs):
    probs = np.exp(logprobs).mean(0)
    assert probs[list(PRINTABLE)].sum() > 0.9
    assert 0 < probs[[token_id(name) for name in STOP_TOKENS]].sum() < 0.01


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_routing_spreads_over_the_experts(preset):
    arch = Glm52Arch.from_config(make_config(preset, {}))
    values = Values(arch, seed=0)
    gate = values.tensor("model.layers.3.mlp.gate.weight", (arch.num_experts, arch.hidden_size)).float()
    bias = values.tensor("model.layers.3.mlp.gate.e_score_correction_bias", (arch.num_experts,))
    hidden = torch.randn(4000, arch.hidden_size, generator=torch.Generator().manual_seed(0))
    scores = (hidden @ gate.T).sigmoid()
    assert scores.std() > 0.2 and 0.4 < scores.mean() < 0.6
    chosen = (scores + bias).topk(arch.num_experts_per_token).indices.flatten().tolist()
    fair = len(chosen) / arch.num_experts
    assert all(0.4 * fair < count < 2.5 * fair for count in Counter(chosen).values())
    assert len(set(chosen)) == arch.num_experts

"""Penalties in a verify batch, against penalising one row at a time as the host's penalisers do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sglang_glm52.speculative.penalties import NONE, Penalties

VOCAB, STOP = 12, {3, 7}
OUTPUT, DRAFTS = [5, 5, 1, 8], [5, 2, 2]
CASES = {
    "frequency": replace(NONE, frequency=0.4),
    "presence": replace(NONE, presence=-0.7),
    "repetition": replace(NONE, repetition=1.6),
    "min_new_tokens": replace(NONE, min_new_tokens=6),
    "all": Penalties(frequency=0.3, presence=0.5, repetition=0.8, min_new_tokens=5),
}


def penalise_row(row: list[float], tokens: list[int], penalties: Penalties) -> list[float]:
    for token in set(tokens):
        row[token] -= penalties.frequency * tokens.count(token) + penalties.presence
        row[token] *= penalties.repetition if row[token] < 0 else 1 / penalties.repetition
    if len(tokens) < penalties.min_new_tokens:
        for token in STOP:
            row[token] = float("-inf")
    return row


@pytest.mark.parametrize("penalties", CASES.values(), ids=CASES)
def test_each_row_is_penalised_for_what_comes_before_it(penalties):
    torch.manual_seed(0)
    logits = torch.randn(len(DRAFTS) + 1, VOCAB)
    want = [penalise_row(row, OUTPUT + DRAFTS[:j], penalties) for j, row in enumerate(logits.tolist())]
    assert penalties.are_any
    penalties.apply(logits, OUTPUT, torch.tensor(DRAFTS), STOP)
    torch.testing.assert_close(logits, torch.tensor(want))


def test_none_is_none():
    assert not NONE.are_any

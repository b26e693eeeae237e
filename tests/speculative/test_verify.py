"""Sampled verification keeps the distribution: chi-square over many requests that are all alike."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from sglang_glm52.host.hooks import cpu_spec_verify
from sglang_glm52.host.hooks.cpu_spec_verify import verify_chains

REQUESTS, TOP_K_ALL = 30_000, 1 << 30
SIGNIFICANCE = 1e-4  # the seed is fixed, so a case passes always or never

# Probabilities after the bonus and after each draft.
UNEVEN = [0.05, 0.4, 0.3, 0.15, 0.1, 0.0]
PEAKED = [0.9, 0.02, 0.02, 0.02, 0.02, 0.02]
EVEN = [0.2, 0.2, 0.2, 0.2, 0.1, 0.1]
CERTAIN = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
CASES = {
    "one_likely_draft": ([UNEVEN, EVEN], [1], {}),
    "one_unlikely_draft": ([UNEVEN, EVEN], [0], {}),
    "a_draft_of_probability_zero": ([UNEVEN, EVEN], [5], {}),
    "all_accepted_then_the_bonus": ([CERTAIN, CERTAIN, CERTAIN, UNEVEN], [2, 2, 2], {}),
    "a_chain_of_three": ([UNEVEN, PEAKED, EVEN, UNEVEN], [1, 0, 3], {}),
    "temperature": ([UNEVEN, PEAKED, EVEN], [1, 0], {"temperature": 1.7}),
    "top_k": ([UNEVEN, PEAKED, UNEVEN], [2, 0], {"top_k": 2}),
    "a_draft_outside_top_k": ([UNEVEN, PEAKED], [3], {"top_k": 2}),
    "top_p": ([UNEVEN, EVEN, UNEVEN], [1, 0], {"top_p": 0.75}),
    "min_p": ([UNEVEN, PEAKED, UNEVEN], [2, 0], {"min_p": 0.3}),
    "top_k_and_top_p_together": ([UNEVEN, UNEVEN], [3], {"top_k": 3, "top_p": 0.75}),
    "all_filters": ([UNEVEN, UNEVEN, EVEN], [2, 1], {"temperature": 0.8, "top_k": 4, "top_p": 0.9, "min_p": 0.2}),
}


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_spec_verify, "get_tp_group", lambda: SimpleNamespace(world_size=1))
    torch.manual_seed(0)


def make_batch(num_requests: int, **given: float) -> SimpleNamespace:
    params = {"temperature": 1.0, "top_k": TOP_K_ALL, "top_p": 1.0, "min_p": 0.0} | given
    no_penalties = SimpleNamespace(
        frequency_penalty=0.0, presence_penalty=0.0, repetition_penalty=1.0, min_new_tokens=0
    )
    sampling_info = SimpleNamespace(
        is_all_greedy=False,
        temperatures=torch.full((num_requests, 1), params["temperature"]),
        top_ks=torch.full((num_requests,), params["top_k"], dtype=torch.int32),
        top_ps=torch.full((num_requests,), params["top_p"]),
        min_ps=torch.full((num_requests,), params["min_p"]),
        need_min_p_sampling=params["min_p"] > 0,
        sampling_seed=None,
        logit_bias=None,
    )
    requests = [SimpleNamespace(sampling_params=no_penalties, output_ids=[0])] * num_requests
    mode = SimpleNamespace(is_idle=lambda: False)
    return SimpleNamespace(forward_mode=mode, sampling_info=sampling_info, reqs=requests)


def verify(batch: SimpleNamespace, probs: list[list[float]], drafts: list[int]) -> list[tuple[int, ...]]:
    """The tokens that each request of the batch gains."""
    num_requests, width = len(batch.reqs), len(probs)
    verify_input = SimpleNamespace(
        topk=1,
        draft_token_num=width,
        draft_token=torch.tensor([0, *drafts]).repeat(num_requests),
        positions=torch.arange(5, 5 + width).repeat(num_requests),
    )
    logits = torch.tensor(probs).log().repeat(num_requests, 1)
    output = SimpleNamespace(next_token_logits=logits)
    tokens, gains, places = verify_chains(None, verify_input, batch, output)
    rows = places.view(num_requests, width).tolist()
    return [tuple(tokens[row[:gain]].tolist()) for row, gain in zip(rows, gains.tolist(), strict=True)]


def filtered(probs: list[float], *, temperature: float = 1.0, top_k: int = 99, top_p: float = 1.0, min_p: float = 0.0):
    """What the sampler keeps of one row: top-k and top-p on the same probabilities, then min-p."""
    scaled = [p ** (1 / temperature) for p in probs]
    scaled = [p / sum(scaled) for p in scaled]
    kept, before = [0.0] * len(probs), 0.0
    for rank, token in enumerate(sorted(range(len(probs)), key=lambda token: -scaled[token])):
        if rank < top_k and before <= top_p and scaled[token] >= min_p * max(scaled):
            kept[token] = scaled[token]
        before += scaled[token]
    return [p / sum(kept) for p in kept]


def outcomes(rows: list[list[float]], drafts: list[int]) -> dict[tuple[int, ...], float]:
    """Each gain a request can have and its probability without speculation, cut where the drafts end."""
    found = {}
    for length, row in enumerate(rows):
        reach = 1.0
        for earlier, draft in itertools.islice(zip(rows, drafts, strict=False), length):
            reach *= earlier[draft]
        for token, p in enumerate(row):
            if length == len(drafts) or token != drafts[length]:
                found[(*drafts[:length], token)] = reach * p
    return found


def chi_square_p_value(counts: Counter, expected: dict[tuple[int, ...], float], total: int) -> float:
    possible = {outcome: p * total for outcome, p in expected.items() if p > 0}
    assert set(counts) <= set(possible), f"impossible: {set(counts) - set(possible)}"
    statistic = sum((counts[outcome] - n) ** 2 / n for outcome, n in possible.items())
    degrees = torch.tensor((len(possible) - 1) / 2)
    return float(torch.special.gammaincc(degrees, torch.tensor(statistic / 2))) if degrees else 1.0


@pytest.mark.parametrize(("probs", "drafts", "params"), CASES.values(), ids=CASES)
def test_the_output_is_distributed_as_without_drafts(probs, drafts, params):
    expected = outcomes([filtered(row, **params) for row in probs], drafts)
    assert sum(expected.values()) == pytest.approx(1.0)
    counts = Counter(verify(make_batch(REQUESTS, **params), probs, drafts))
    assert chi_square_p_value(counts, expected, REQUESTS) > SIGNIFICANCE


def test_the_test_sees_a_wrong_distribution():
    """Top-p after renormalising by top-k, as the host verifies, is another distribution."""
    probs, drafts, params = CASES["top_k_and_top_p_together"]
    after_top_k = [filtered(row, top_k=params["top_k"]) for row in probs]
    expected = outcomes([filtered(row, top_p=params["top_p"]) for row in after_top_k], drafts)
    counts = Counter(verify(make_batch(REQUESTS, **params), probs, drafts))
    with pytest.raises(AssertionError, match="impossible"):
        chi_square_p_value(counts, expected, REQUESTS)


def test_a_greedy_request_among_sampled_ones_stays_greedy():
    batch = make_batch(4)
    batch.sampling_info.top_ks[1:] = 1
    assert verify(batch, [UNEVEN, PEAKED], [1])[1:] == [(1, 0)] * 3


def test_a_bias_reaches_every_row_of_its_request():
    batch = make_batch(2)
    batch.sampling_info.is_all_greedy = True
    batch.sampling_info.logit_bias = torch.zeros(2, 6)
    batch.sampling_info.logit_bias[1, 4] = 100.0
    assert verify(batch, [UNEVEN, PEAKED], [4]) == [(1,), (4, 4)]


def test_seeds_and_positions_reach_the_sampler_row_by_row(monkeypatch):
    """The host's sampler cannot draw by a seed on a CPU; this is what it is asked to do."""
    seen = {}

    def record(probs, top_ks, top_ps, min_ps, need_min_p, seeds, positions):
        seen.update(seeds=seeds.tolist(), positions=positions.tolist())
        return probs.argmax(dim=-1)

    monkeypatch.setattr(cpu_spec_verify, "top_k_top_p_min_p_sampling_from_probs_torch", record)
    batch = make_batch(2)
    batch.sampling_info.sampling_seed = torch.tensor([7, 8])
    assert verify(batch, [UNEVEN, PEAKED, EVEN], [1, 5]) == [(1, 0), (1, 0)]
    assert seen == {"seeds": [7, 7, 7, 8, 8, 8], "positions": [5, 6, 7, 5, 6, 7]}

"""Speculation changes no greedy token and no log-probability, whatever share of the drafts is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from speculative.drafting import OVERRIDES, build_model, make_prompts, serve

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.testing.engine import Job, Run
from sglang_glm52.tiny.mtp_code import count_rounds
from sglang_glm52.tiny.presets import make_config
from sglang_glm52.tiny.weights import make_values

BOUND = 1e-3  # of log-probabilities in nats
ACCEPTANCES = {"full": 1.0, "partial": 0.6, "none": 0.0, "noise": None}
CASES = (("full", 5), ("partial", 1), ("partial", 3), ("partial", 5), ("none", 3))  # kept of a round's drafts, steps
WIDE = ("partial", 3)  # the case that gets the most prompts and the longest outputs
IN_STEP = ("partial", 5)  # the case without the overlap schedule
CHUNK = {"chunked_prefill_size": 128}  # shorter than the longest prompts
# The host admits a request when this share of its new tokens fits: all at once, and too many.
CROWDED = {"SGLANG_INIT_NEW_TOKEN_RATIO": "0.1", "SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR": "1.0"}
SCORED = 16  # tokens: the greedy one is certain in most of these models, others follow the whole context
CROWD, CROWDED_TOKENS = 24, 1536  # each request grows to between 2 and 7 pages, of which 24 are there
FEW = Job(make_prompts(32, seed=1), max_new_tokens=40, score_from=-1, vocab_size=SCORED)
COUNTED = replace(FEW, sampling={"frequency_penalty": 0.3, "presence_penalty": 0.2})
REPEATED = replace(FEW, sampling={"repetition_penalty": 1.2})  # apart: the host orders the two by its schedule
MANY = Job(make_prompts(200, seed=2), max_new_tokens=128, score_from=-1, vocab_size=SCORED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def undrafted(folder: Path) -> dict[str, list[list[Run]]]:
    """What each model answers without speculation, to FEW and where it is needed to MANY; filled when asked for."""
    return {}


def answers(undrafted: dict[str, list[list[Run]]], folder: Path, name: str) -> list[list[Run]]:
    if name not in undrafted:
        jobs = [FEW, MANY] if name == WIDE[0] else [FEW, COUNTED, REPEATED] if name == "noise" else [FEW]
        in_step = {"disable_overlap_schedule": name == "noise"}  # else the host itself penalises one token late
        undrafted[name] = serve(build_model(folder, ACCEPTANCES[name]), jobs, 0, **CHUNK, **in_step)
    return undrafted[name]


def assert_same(drafted: list[Run], alone: list[Run]) -> None:
    assert len(drafted) == len(alone)
    for place, (a, b) in enumerate(zip(drafted, alone, strict=True)):
        if not a.is_aborted:
            assert a.output_ids == b.output_ids, f"prompt {place}"
            assert np.abs(a.chosen - b.chosen).max() <= BOUND, f"prompt {place}"
            assert a.output_logprobs.shape == (len(a.output_ids), SCORED)
            assert np.abs(a.output_logprobs - b.output_logprobs).max() <= BOUND, f"prompt {place}"
        else:  # what came before the end
            assert a.output_ids == b.output_ids[: len(a.output_ids)], f"prompt {place}"


def assert_acceptance(drafted: list[Run], acceptance: float, num_steps: int) -> None:
    code = make_values(Glm52Arch.from_config(make_config("cpu", OVERRIDES)), 0, acceptance).code
    for place, run in enumerate(drafted):
        want = count_rounds(code, run.output_ids[0], len(run.output_ids), num_steps)
        assert run.draft_rounds == want, f"prompt {place}"


@pytest.mark.parametrize(("name", "num_steps"), CASES)
def test_outputs_are_the_same(name: str, num_steps: int, undrafted, folder: Path) -> None:
    jobs = [FEW, MANY] if (name, num_steps) == WIDE else [FEW]
    args = {**CHUNK, "disable_overlap_schedule": (name, num_steps) == IN_STEP}
    found = serve(build_model(folder, ACCEPTANCES[name]), jobs, num_steps, **args)
    for drafted, alone in zip(found, answers(undrafted, folder, name), strict=False):
        assert_same(drafted, alone)
        assert_acceptance(drafted, ACCEPTANCES[name], num_steps)
        assert sum(run.cached_tokens for run in drafted) > 0, "no prompt was found in the prefix cache"


def test_text_that_follows_the_whole_context_is_the_same(undrafted, folder: Path) -> None:
    """The models above have one successor for each token; here a wrong key or penalty changes the text."""
    found = serve(build_model(folder, None), [FEW, COUNTED, REPEATED], 3, **CHUNK)
    plain, counted, repeated = answers(undrafted, folder, "noise")
    for drafted, alone in zip(found, (plain, counted, repeated), strict=True):
        assert_same(drafted, alone)
        assert sum(run.correct_drafts for run in drafted) > 0, "no draft was kept: this shows nothing"
    for penalised in (counted, repeated):
        assert [run.output_ids for run in plain] != [run.output_ids for run in penalised]


def test_retracted_and_aborted_requests_leave_the_others_alone(undrafted, folder: Path) -> None:
    crowd = replace(MANY, prompts=MANY.prompts[:CROWD], abort_seconds={3: 0.3, 7: 0.6, 11: 1.0})
    args = {"max_total_tokens": CROWDED_TOKENS, "environ": CROWDED}
    [drafted] = serve(build_model(folder, ACCEPTANCES[WIDE[0]]), [crowd], 3, **CHUNK, **args)
    assert_same(drafted, answers(undrafted, folder, WIDE[0])[1][:CROWD])
    assert sum(run.retractions for run in drafted) > 0, "nothing was retracted: the pool is too large for this test"
    assert any(run.is_aborted for run in drafted), "nothing was aborted: the requests were done before"

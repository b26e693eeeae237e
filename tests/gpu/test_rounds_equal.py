"""Rounds prepared ahead put out, accept and score what the host's rounds do.

The checkpoint and its prompts are those of test_gpu_eagle.py: every token has a fixed successor with a margin that no
rounding bridges, and drafts are right as often as was built in, so tokens, rounds and accepted drafts must be equal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gpu.test_gpu_eagle import ACCEPTANCE, SEED, SHORT, Case, generate

from sglang_glm52.testing.engine import Run
from sglang_glm52.tiny import build

pytestmark = pytest.mark.gpu

CASES = (Case(1), Case(3), Case(3, share="off"), Case(3, kv="bfloat16", graph=False))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ahead") / "model"
    return build(folder, "gpu", "bf16", SEED, overrides=SHORT, mtp_acceptance=ACCEPTANCE)


def serve(checkpoint: Path, case: Case, rounds: str, **engine_args: object) -> list[Run]:
    return generate(
        checkpoint,
        case.kv,
        {"SGLANG_GLM52_MTP_INDEX_SHARE": case.share, "SGLANG_GLM52_SPEC_ROUNDS": rounds},
        disable_cuda_graph=not case.graph,
        speculative_algorithm="EAGLE",
        speculative_num_steps=case.num_steps,
        speculative_eagle_topk=1,
        speculative_num_draft_tokens=case.num_steps + 1,
        **engine_args,
    )


def require_equal(case: Case, ahead: list[Run], host: list[Run]) -> None:
    for got, want in zip(ahead, host, strict=True):
        assert got.output_ids == want.output_ids
        assert (got.draft_rounds, got.correct_drafts) == (want.draft_rounds, want.correct_drafts)
        mean = np.abs(got.output_logprobs - want.output_logprobs).mean()
        print(f"{case}: {got.draft_rounds} rounds, {got.correct_drafts} drafts accepted, mean |difference| {mean:.4f}")
        assert mean < case.bound


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rounds_ahead_are_the_host_s_rounds(case: Case, checkpoint: Path) -> None:
    require_equal(case, serve(checkpoint, case, "ahead"), serve(checkpoint, case, "host"))


def test_so_are_rounds_of_more_requests_than_the_largest_graph_has(checkpoint: Path) -> None:
    """Five prompts are served at once, without a graph until three of them have ended."""
    case = Case(3)
    ahead, host = (serve(checkpoint, case, rounds, cuda_graph_bs=[1, 2]) for rounds in ("ahead", "host"))
    require_equal(case, ahead, host)

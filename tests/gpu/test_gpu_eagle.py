"""EAGLE speculation on a GPU: the output is that without it, and as many drafts are accepted as were built in.

The checkpoint's target continues every token by a fixed successor, with a margin that no rounding bridges, while the
log-probabilities of the other tokens depend on the whole context. So equal tokens say that the chain of drafts, its
verification and the accounting are right, and equal log-probabilities that the KV cache and the indexer keys are. Both
runs compute in GEMMs of other shapes, which round independently: each is as far from float32 as test_gpu_parity.py
allows, so they differ by the root of two times that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.mtp_code import MtpCode, count_rounds
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE
from sglang_glm52.tiny.values import PRINTABLE, Values

pytestmark = pytest.mark.gpu

SEED, ACCEPTANCE = 0, 0.6
SHORT = {"num_hidden_layers": 5}
LENGTHS = (40, 700, 2040, 2500, 3000)  # within index_topk = 2048, growing past it, beyond
NUM_NEW = 128
PARITY_BOUNDS = {("bf16", "bfloat16"): 0.06, ("bf16", "fp8_e4m3"): 0.12, ("w4afp8", "fp8_e4m3"): 0.23}


@dataclass(frozen=True, slots=True)
class Case:
    num_steps: int
    kv: str = "fp8_e4m3"
    graph: bool = True
    share: str = "auto"  # SGLANG_GLM52_MTP_INDEX_SHARE
    fmt: str = "bf16"

    @property
    def bound(self) -> float:
        """Of the mean absolute difference of log-probabilities."""
        return 2**0.5 * PARITY_BOUNDS[self.fmt, self.kv]

    def __str__(self) -> str:
        graph = f"{'' if self.graph else 'no '}graph"
        return f"{self.num_steps}-1-{self.num_steps + 1} {self.fmt} {self.kv} {graph} share {self.share}"


CASES = (
    Case(1),
    Case(3),
    Case(3, share="off"),
    Case(3, kv="bfloat16", graph=False),
    Case(5),
    Case(3, fmt="w4afp8"),
)


@cache
def jobs() -> tuple[Job, ...]:
    """All prompts at once, then the last again: a hit in the prefix cache."""
    rng = random.Random(11)
    prompts = [rng.choices(PRINTABLE, k=length) for length in LENGTHS]
    return (
        Job(prompts, max_new_tokens=NUM_NEW, score_from=-1, vocab_size=VOCAB_SIZE),
        Job([prompts[-1]], max_new_tokens=NUM_NEW, score_from=-1, vocab_size=VOCAB_SIZE),
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory):
    return cache(
        lambda fmt: build(
            tmp_path_factory.mktemp("eagle") / fmt, "gpu", fmt, SEED, overrides=SHORT, mtp_acceptance=ACCEPTANCE
        )
    )


def generate(folder: Path, kv: str, environ: dict[str, str], **engine_args) -> list[Run]:
    found = run_engine(
        folder,
        jobs(),
        device="cuda",
        environ=environ,
        kv_cache_dtype=kv,
        chunked_prefill_size=1024,
        disable_piecewise_cuda_graph=True,
        cuda_graph_max_bs=8,
        max_running_requests=8,
        max_total_tokens=65536,
        context_length=8192,
        **engine_args,
    )
    return [run for runs in found for run in runs]


@pytest.fixture(scope="module")
def plain(checkpoint):
    """Runs without speculation."""
    return cache(lambda fmt, kv: generate(checkpoint(fmt), kv, {}))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_output_is_that_without_speculation(case: Case, checkpoint, plain) -> None:
    folder = checkpoint(case.fmt)
    got = generate(
        folder,
        case.kv,
        {"SGLANG_GLM52_MTP_INDEX_SHARE": case.share},
        disable_cuda_graph=not case.graph,
        speculative_algorithm="EAGLE",
        speculative_num_steps=case.num_steps,
        speculative_eagle_topk=1,
        speculative_num_draft_tokens=case.num_steps + 1,
    )
    code = MtpCode.make(Values(Glm52Arch.from_checkpoint(folder), SEED).noise, VOCAB_SIZE, ACCEPTANCE)
    prompts = [prompt for job in jobs() for prompt in job.prompts]
    assert got[-1].cached_tokens > 0
    for prompt, run, want in zip(prompts, got, plain(case.fmt, case.kv), strict=True):
        label = f"{case}, {len(prompt)} tokens"
        assert run.output_ids == want.output_ids, label
        mean = np.abs(run.output_logprobs - want.output_logprobs).mean()
        rounds = count_rounds(code, run.output_ids[0], NUM_NEW, case.num_steps)
        print(
            f"{label}: {run.draft_rounds} rounds, {rounds} built in, {run.correct_drafts} drafts accepted, "
            f"mean |difference| {mean:.4f}"
        )
        assert run.draft_rounds == rounds, label
        assert mean < case.bound, f"{label}: mean |difference| {mean:.4f} >= {case.bound:.4f}"

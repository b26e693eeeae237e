"""Two GPUs against one: tensor parallelism, expert parallelism and DP attention, with and without EAGLE.

The checkpoint continues every token by a fixed successor whatever the rounding (see test_gpu_eagle.py), so tokens must
be equal; log-probabilities come from two runs that round independently, each within the bounds of test_gpu_parity.py.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build
from sglang_glm52.tiny.mtp_code import MtpCode, count_rounds
from sglang_glm52.tiny.tokenizer import VOCAB_SIZE
from sglang_glm52.tiny.values import PRINTABLE, Values

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs in one machine"),
]

SEED, ACCEPTANCE, STEPS = 0, 0.6, 3
SHORT = {"num_hidden_layers": 5}
LENGTHS = (40, 700, 2040, 3000)  # within index_topk = 2048, growing past it, beyond
NUM_NEW = 64
BOUNDS = {"bf16": 2**0.5 * 0.12, "fp8": 2**0.5 * 0.23, "w4afp8": 2**0.5 * 0.23}  # of mean absolute differences
EAGLE = {
    "speculative_algorithm": "EAGLE",
    "speculative_num_steps": STEPS,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": STEPS + 1,
}
TP = {"tp_size": 2}
EP = {"tp_size": 2, "ep_size": 2}
DP = {"tp_size": 2, "dp_size": 2, "enable_dp_attention": True}


@dataclass(frozen=True, slots=True)
class Case:
    fmt: str
    split: str
    eagle: bool

    def __str__(self) -> str:
        return f"{self.fmt} {self.split}{' EAGLE' if self.eagle else ''}"


SPLITS = {"TP 2": TP, "TP 2 EP 2": EP, "TP 2 DP attention 2": DP}
CASES = tuple(Case(*each) for each in product(BOUNDS, SPLITS, (False, True)))


@cache
def job() -> Job:
    rng = random.Random(5)
    prompts = [rng.choices(PRINTABLE, k=length) for length in LENGTHS]
    return Job(prompts, max_new_tokens=NUM_NEW, score_from=-1, vocab_size=VOCAB_SIZE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory):
    return cache(
        lambda fmt: build(
            tmp_path_factory.mktemp("two") / fmt, "gpu", fmt, SEED, overrides=SHORT, mtp_acceptance=ACCEPTANCE
        )
    )


@pytest.fixture(scope="module")
def one_gpu(checkpoint):
    """Runs on one GPU without speculation."""
    return cache(lambda fmt: generate(checkpoint(fmt)))


def generate(folder: Path, **engine_args) -> list[Run]:
    [runs] = run_engine(
        folder,
        [job()],
        device="cuda",
        kv_cache_dtype="fp8_e4m3",
        chunked_prefill_size=1024,
        disable_piecewise_cuda_graph=True,
        cuda_graph_max_bs=8,
        max_running_requests=8,
        max_total_tokens=65536,
        context_length=8192,
        **engine_args,
    )
    return runs


def difference(run: Run, other: Run) -> float:
    """The mean, over steps and vocabulary."""
    return float(np.abs(run.output_logprobs - other.output_logprobs).mean())


def require_equal(case: Case, folder: Path, want: list[Run], bounds: list[float]) -> None:
    """Two GPUs, as the case splits them, answer as `want` of one, and round for round as was built in.

    Args:
        bounds: of the mean difference of log-probabilities, one a prompt.
    """
    got = generate(folder, **SPLITS[case.split], **(EAGLE if case.eagle else {}))
    code = MtpCode.make(Values(Glm52Arch.from_checkpoint(folder), SEED).noise, VOCAB_SIZE, ACCEPTANCE)
    for prompt, run, one, bound in zip(job().prompts, got, want, bounds, strict=True):
        label = f"{case}, {len(prompt)} tokens"
        assert run.output_ids == one.output_ids, label
        mean = difference(run, one)
        print(f"{label}: mean |difference| {mean:.4f} of {bound:.4f}, {run.draft_rounds} rounds")
        assert mean < bound, f"{label}: mean |difference| {mean:.4f} >= {bound:.4f}"
        if case.eagle:
            assert run.draft_rounds == count_rounds(code, run.output_ids[0], NUM_NEW, STEPS), label


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_gpus_give_the_output_of_one(case: Case, checkpoint, one_gpu) -> None:
    require_equal(case, checkpoint(case.fmt), one_gpu(case.fmt), [BOUNDS[case.fmt]] * len(LENGTHS))

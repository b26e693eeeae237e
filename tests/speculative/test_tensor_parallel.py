"""Two ranks on the CPU (gloo) draft and verify alike: one that disagreed would hang or write another text."""

from __future__ import annotations

from pathlib import Path

from speculative.drafting import OVERRIDES, build_model, make_prompts, serve

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.testing.engine import Job
from sglang_glm52.tiny.mtp_code import count_rounds
from sglang_glm52.tiny.presets import make_config
from sglang_glm52.tiny.weights import make_values

ONE_CORE_EACH = {"SGLANG_CPU_OMP_THREADS_BIND": "0|1"}
ACCEPTANCE, NUM_STEPS, NUM_NEW = 0.6, 3, 40


def test_two_ranks_follow_the_checkpoints_text(tmp_path: Path) -> None:
    job = Job(make_prompts(8, seed=3), max_new_tokens=NUM_NEW, score_from=-1)
    [runs] = serve(build_model(tmp_path, ACCEPTANCE), [job], NUM_STEPS, environ=ONE_CORE_EACH, tp_size=2)
    code = make_values(Glm52Arch.from_config(make_config("cpu", OVERRIDES)), 0, ACCEPTANCE).code
    for prompt, run in zip(job.prompts, runs, strict=True):
        token, expected = prompt[-1], []
        for _ in range(NUM_NEW):
            expected.append(token := code.successor[token])
        assert run.output_ids == expected
        assert run.draft_rounds == count_rounds(code, expected[0], NUM_NEW, NUM_STEPS)

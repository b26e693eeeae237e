"""Engines with and without speculation, for the tests that compare them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sglang_glm52.testing.engine import Job, Run, run_engine
from sglang_glm52.tiny import build

OVERRIDES = {"num_hidden_layers": 3, "first_k_dense_replace": 1}  # the least with a dense, a full and a shared layer
TOPK = 64  # index_topk of the cpu preset
PAGE = 64


def build_model(folder: Path, acceptance: float | None) -> Path:
    """A checkpoint whose MTP layer is right that often; None for noise, whose greedy text follows the whole context."""
    path = folder / f"acceptance_{acceptance}"
    return path if path.exists() else build(path, overrides=OVERRIDES, mtp_acceptance=acceptance)


def make_prompts(count: int, seed: int) -> list[list[int]]:
    """Lengths below, at and above the selection's; every other prompt begins as its neighbours do."""
    rng = random.Random(seed)
    stem = [rng.randrange(256) for _ in range(5 * TOPK)]
    prompts = []
    for place in range(count):
        length = rng.choice((1, 5, 20, TOPK - 1, TOPK, TOPK + 1, 2 * TOPK + 3, 5 * TOPK))
        own = [rng.randrange(256) for _ in range(length)]
        prompts.append(own if place % 2 else stem[: length // PAGE * PAGE] + own[: length % PAGE + 1])
    return prompts


def serve(model: Path, jobs: Sequence[Job], num_steps: int, **engine_args: Any) -> list[list[Run]]:
    """`num_steps` draft steps a round, 0 for no speculation."""
    speculation = {
        "speculative_algorithm": "EAGLE",
        "speculative_num_steps": num_steps,
        "speculative_eagle_topk": 1,
        "speculative_num_draft_tokens": num_steps + 1,
    }
    args = {"dtype": "float32", "max_total_tokens": 16384, "max_running_requests": 48, **engine_args}
    return run_engine(model, jobs, device="cpu", **args, **(speculation if num_steps else {}))

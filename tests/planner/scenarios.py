"""Scenarios and plans that the planner's tests share."""

from __future__ import annotations

from typing import Any

from sglang_glm52.planner.budget import Plan, make_plan
from sglang_glm52.planner.gpus import find_gpu
from sglang_glm52.planner.kv import FP8, Pool
from sglang_glm52.planner.model import preset_model
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.planner.scenario import Scenario

WINDOW = 1_048_576


def scenario(**changes: Any) -> Scenario:
    """8 x H200, one request of the whole window, with `changes`."""
    usual = {
        "gpu": find_gpu("h200"),
        "num_gpus": 8,
        "parallel": Parallel(8),
        "context": WINDOW,
        "concurrency": 1,
        "kv_dtype": FP8,
        "pool": Pool.COMPACT,
        "draft_tokens": 0,
        "chunked_prefill_size": 8192,
        "mem_fraction_static": None,
    }
    return Scenario(**usual | changes)


def plan(form: str = "w4afp8", **changes: Any) -> Plan:
    """The published model in `form`."""
    return make_plan(preset_model(form), scenario(**changes))

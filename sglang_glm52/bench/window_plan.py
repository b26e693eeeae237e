"""What `glm52 plan` predicts for the engine of `glm52 bench window`, beside which its table puts what was measured."""

from __future__ import annotations

from pathlib import Path

from sglang_glm52.bench.window_spec import WindowSpec
from sglang_glm52.env import settings
from sglang_glm52.planner.budget import make_plan
from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.gpus import custom_gpu
from sglang_glm52.planner.kv import FP8, Pool
from sglang_glm52.planner.model import read_model
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.planner.scenario import Scenario
from sglang_glm52.planner.workspaces import MARGIN, PIECEWISE_GRAPHS

NOT_THERE = (MARGIN, PIECEWISE_GRAPHS)  # kept for what nobody has measured; switched off in this bench


def planned(spec: WindowSpec, gpu_bytes: int) -> dict[str, int]:
    """Tokens of the pool and, for this package's class, the most memory in use with prompts of the whole window."""
    is_host_pool = spec.which == "host" or settings().kv_pool == "host"
    scenario = Scenario(
        gpu=custom_gpu(gpu_bytes / GIB),
        num_gpus=1,
        parallel=Parallel(1),
        context=spec.context_length,
        concurrency=spec.crowd,
        kv_dtype=FP8 if spec.kv == FP8 else "bfloat16",
        pool=Pool.HOST if is_host_pool else Pool.COMPACT,
        draft_tokens=spec.server_args.get("speculative_num_draft_tokens", 0),
        chunked_prefill_size=spec.chunk,
        mem_fraction_static=spec.mem_fraction_static,
    )
    plan = make_plan(read_model(Path(spec.model_dir)), scenario)
    found = {"planned_tokens": plan.max_tokens}
    if spec.which == "ours":
        found["planned_bytes"] = plan.used_bytes(without=NOT_THERE)
    return found

"""Whether what was asked for fits: what is in the way, by how much, and what to change."""

from __future__ import annotations

from sglang_glm52.errors import CapacityError
from sglang_glm52.planner.budget import Plan
from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.kv import FP8


def find_problem(plan: Plan) -> CapacityError | None:
    """The first thing in the way: weights, then the split by --mem-fraction-static, then the number of tokens."""
    scenario = plan.scenario
    fixed = plan.used_bytes() - plan.pool_bytes
    total = scenario.gpu.total_bytes
    if fixed >= total:
        return CapacityError(
            f"weights and workspaces need {fixed / GIB:.2f} GiB a GPU, {scenario.gpu.name} has {total / GIB:.2f}: "
            f"{(fixed - total) / GIB:.2f} GiB short; {_for_weights(plan)}"
        )
    if plan.left_bytes < 0:
        return CapacityError(
            f"--mem-fraction-static {plan.mem_fraction_static:g} leaves too little beside weights and KV cache: "
            f"{-plan.left_bytes / GIB:.2f} GiB a GPU short; leave the option out to have it chosen"
        )
    short = plan.tokens_needed - plan.max_tokens
    if short > 0:
        return CapacityError(
            f"the KV cache holds {plan.max_tokens} tokens, {scenario.concurrency_per_rank} x {scenario.context} are "
            f"{plan.tokens_needed}: {short} tokens or {short * plan.kv.total / GIB:.2f} GiB a GPU short; "
            f"{_for_tokens(plan)}"
        )
    return None


def _for_weights(plan: Plan) -> str:
    remedies = ["raise --gpus and --tp", "lower --chunked-prefill-size or --context"]
    return " or ".join([*_smaller_checkpoint(plan), *remedies])


def _for_tokens(plan: Plan) -> str:
    remedies = [] if plan.scenario.mem_fraction_static is None else ["leave out --mem-fraction-static"]
    if plan.full_requests:
        remedies.append(f"lower --concurrency to {plan.full_requests}")
    elif each := plan.max_tokens // plan.scenario.concurrency_per_rank:
        remedies.append(f"lower --context to {each}")
    if plan.scenario.kv_dtype != FP8:
        remedies.append(f"use --kv-cache-dtype {FP8}")
    return " or ".join([*remedies, *_smaller_checkpoint(plan), "use more or larger GPUs"])


def _smaller_checkpoint(plan: Plan) -> list[str]:
    return [] if plan.model.form == "w4afp8" else ["serve the W4AFP8 checkpoint"]

"""What a server says about its memory, beside what `glm52 plan` predicts for the same options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sglang_glm52.bench.node_spec import CPU_DTYPE, NodeSpec, speculation_name
from sglang_glm52.bench.shard_spec import Which
from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.env import settings
from sglang_glm52.errors import ConfigError
from sglang_glm52.planner.budget import Plan, make_plan
from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.engines import cpu_engine
from sglang_glm52.planner.gpus import custom_gpu
from sglang_glm52.planner.kv import FP8, Pool, kv_bytes, slots
from sglang_glm52.planner.model import read_model
from sglang_glm52.planner.scenario import Scenario
from sglang_glm52.planner.weights import MTP, weight_bytes
from sglang_glm52.planner.workspaces import MARGIN, PIECEWISE_GRAPHS
from sglang_glm52.testing.server import Server

MEASURED, PLANNED = "measured", "planned"
_CPU_ITEM_BYTES = 4
_MAX_TOTAL_TOKENS = "--max-total-tokens"


def memory_values(
    server: Server, spec: NodeSpec, which: Which, speculation: Speculation | None
) -> dict[str, dict[str, Any]]:
    """What was "measured" and what was "planned", under the same names.

    Bytes of weights and KV cache on one GPU without the draft model's, tokens of one pool and, on CUDA, bytes in use on
    the fullest GPU once the server is warm.
    """
    measured = reported(json.loads(server.get("/server_info")))
    if spec.device == "cpu":
        return {MEASURED: measured, PLANNED: planned_on_cpu(spec, measured["tokens"])}
    import torch

    from sglang_glm52.bench.gpu_memory import used_bytes, visible_gpus

    with visible_gpus() as gpus:  # before this process has a CUDA context
        used = [used_bytes(gpu) for gpu in gpus[: spec.tp]]
    plan = planned_on_cuda(spec, which, speculation, torch.cuda.get_device_properties(0).total_memory)
    return {
        MEASURED: measured | {"used_bytes": max(used), "used_bytes_by_gpu": used},
        PLANNED: plan_values(plan, spec.server_args),
    }


def reported(info: dict[str, Any]) -> dict[str, Any]:
    """From /server_info, whose sizes are of the first rank, in GiB to two places."""
    usage = info["internal_states"][0]["memory_usage"]
    return {
        "weights_bytes": round(usage["weight"] * GIB),
        "kv_bytes": round(usage["kvcache"] * GIB),
        "graph_bytes": round(usage["graph"] * GIB),
        "tokens": usage["token_capacity"],
    }


def planned_on_cuda(spec: NodeSpec, which: Which, speculation: Speculation | None, gpu_bytes: int) -> Plan:
    is_host_pool = which == "host" or settings().kv_pool == "host"
    scenario = Scenario(
        gpu=custom_gpu(gpu_bytes / GIB),
        num_gpus=spec.tp,
        parallel=spec.parallel,
        context=spec.context_length,
        concurrency=spec.max_running_requests,
        kv_dtype=FP8,
        pool=Pool.HOST if is_host_pool else Pool.COMPACT,
        draft_tokens=speculation.draft_tokens if speculation else 0,
        chunked_prefill_size=spec.chunk,
        mem_fraction_static=spec.mem_fraction_static,
    )
    return make_plan(read_model(Path(spec.model_dir)), scenario)


def require_memory(spec: NodeSpec, servers: Iterable[tuple[Speculation | None, Which]], gpu_bytes: int) -> None:
    """Raise ConfigError, before one of them is started, if `servers` would use more than each GPU's `gpu_bytes`."""
    if any(word.partition("=")[0] == _MAX_TOTAL_TOKENS for word in spec.server_args):  # then no fraction decides
        return
    plans = {(how, which): planned_on_cuda(spec, which, how, gpu_bytes) for how, which in servers}
    used = {server: plan_values(plan, spec.server_args)["used_bytes"] for server, plan in plans.items()}
    found = ", ".join(
        f"{which} {speculation_name(how)} {num_bytes / 1e9:.1f} GB"
        for (how, which), num_bytes in used.items()
        if num_bytes > gpu_bytes
    )
    if not found:
        return
    fitting = [make_plan(plan.model, replace(plan.scenario, mem_fraction_static=None)) for plan in plans.values()]
    lowest = min(plan.mem_fraction_static for plan in fitting)
    remedy = f"lower it to {lowest:g}" if min(plan.left_bytes for plan in fitting) >= 0 else "use more GPUs"
    raise ConfigError(
        f"--mem-fraction-static {spec.mem_fraction_static:g}: planned are {found} of each GPU's {gpu_bytes / 1e9:.1f}; "
        f"{remedy}, or cut --layers"
    )


def plan_values(plan: Plan, server_args: Sequence[str] = ()) -> dict[str, Any]:
    """Under the names of what is measured. `used_bytes` is without the margin and what `server_args` leave out."""
    without = (MARGIN, PIECEWISE_GRAPHS) if "--disable-piecewise-cuda-graph" in server_args else (MARGIN,)
    return {
        "weights_bytes": sum(count for kind, count in plan.weights.items() if kind != MTP),
        "kv_bytes": slots(plan.max_tokens) * plan.kv.target,
        "tokens": plan.max_tokens,
        "used_bytes": plan.used_bytes(without=without),
    }


def planned_on_cpu(spec: NodeSpec, tokens: int) -> dict[str, Any]:
    """The CPU engine's pool is sized by the machine's free memory, so the number of tokens is taken from the server.

    It makes room for indexer keys when the first are written, after it has reported its size.
    """
    model = read_model(Path(spec.model_dir))
    weights = weight_bytes(model, spec.parallel, cpu_engine(_CPU_ITEM_BYTES))
    kv = kv_bytes(model.arch, CPU_DTYPE, Pool.CPU, use_mtp=False)
    return {
        "weights_bytes": sum(count for kind, count in weights.items() if kind != MTP),
        "kv_bytes": slots(tokens) * kv.latents,
        "tokens": tokens,
    }

"""A plan as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sglang_glm52.bench.record import table
from sglang_glm52.planner.budget import Plan
from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.kv import slots
from sglang_glm52.planner.launch import launch_command
from sglang_glm52.planner.verdict import find_problem


def sections(plan: Plan) -> list[tuple[str, int]]:
    """(name, bytes) of what one GPU's memory is made of, in the order of a server's start; they add up to all of it."""
    rows = slots(plan.max_tokens)
    return [
        ("in use before loading", int(plan.start.value)),
        *((f"weights: {kind}", count) for kind, count in plan.weights.items()),
        ("KV cache: latents", rows * plan.kv.latents),
        ("KV cache: indexer keys", rows * (plan.kv.index_keys - plan.kv.unread)),
        ("KV cache: indexer keys nothing reads", rows * plan.kv.unread),
        ("KV cache: MTP layer", rows * plan.kv.mtp),
        *((workspace.name, workspace.num_bytes) for workspace in plan.workspaces),
        ("left over", plan.left_bytes),
    ]


def text_lines(plans: Sequence[Plan]) -> Iterator[str]:
    """Table with a column a plan, sources, verdicts and commands."""
    scenario = plans[0].scenario
    parallel, gpu = scenario.parallel, scenario.gpu
    yield (
        f"{scenario.num_gpus} x {gpu.name}, {gpu.total_gib:.2f} GiB each ({gpu.source}); tp {parallel.tp}, "
        f"ep {parallel.ep}, dp {parallel.dp}"
    )
    yield (
        f"{scenario.concurrency} x {scenario.context} tokens, {scenario.kv_dtype} KV cache, "
        f"{scenario.pool.value} pool, chunks of {scenario.chunked_prefill_size}, "
        f"{'with' if scenario.use_mtp else 'without'} the MTP layer"
    )
    if not gpu.is_hopper:
        yield f"{gpu.name} is not a Hopper GPU: the server refuses it, and its KV cache would be laid out otherwise"
    yield table(["", *(plan.model.form for plan in plans)], _rows(plans))
    yield "sizes a GPU in GiB (2^30 bytes), the checkpoint's in GB (1e9 bytes); where they are from:"
    yield from (f"  weights {plan.model.form}: shapes in {plan.model.source} ({plan.model.path})" for plan in plans)
    yield f"  in use before loading: {plans[0].start.source}"
    for together in zip(*(plan.workspaces for plan in plans), strict=True):
        if any(workspace.num_bytes for workspace in together):
            yield f"  {together[0].name}: {together[0].source}"
    for plan in plans:
        problem = find_problem(plan)
        yield f"{plan.model.form}: {f'does not fit: {problem}' if problem else 'fits'}"
        if problem is None:
            yield f"  {launch_command(plan)}"


def _rows(plans: Sequence[Plan]) -> Iterator[list[str]]:
    def row(name: str, cell: Callable[[Plan], object]) -> list[str]:
        return [name, *(str(cell(plan)) for plan in plans)]

    yield row("checkpoint, GB", lambda plan: f"{plan.model.checkpoint_bytes / 1e9:.2f}")
    for index, (name, _) in enumerate(sections(plans[0])):
        sizes = [sections(plan)[index][1] for plan in plans]
        if any(sizes):
            yield [name, *(f"{size / GIB:.2f}" for size in sizes)]
    yield row("weights, all", lambda plan: f"{plan.weights_per_gpu / GIB:.2f}")
    yield row("KV cache, all", lambda plan: f"{plan.pool_bytes / GIB:.2f}")
    yield row("KV bytes a token", lambda plan: plan.kv.total)
    yield row("--mem-fraction-static", lambda plan: f"{plan.mem_fraction_static:g}")
    yield row("tokens in a KV pool", lambda plan: plan.max_tokens)
    yield row(f"requests of {plans[0].scenario.context} tokens", lambda plan: plan.full_requests)
    yield row("fits", lambda plan: "no" if find_problem(plan) else "yes")


def as_json(plan: Plan) -> dict[str, Any]:
    """Everything in the table, in bytes, under names that stay.

    `weights_bytes_total` is the checkpoint's tensors, once; `max_tokens` what one DP rank's server reports as
    `max_total_num_tokens`.
    """
    scenario, parallel, kv, problem = plan.scenario, plan.scenario.parallel, plan.kv, find_problem(plan)
    return {
        "model": plan.model.path,
        "format": plan.model.form,
        "shapes_from": plan.model.source,
        "gpu": scenario.gpu.name,
        "gpu_bytes": scenario.gpu.total_bytes,
        "gpus": scenario.num_gpus,
        "tp": parallel.tp,
        "ep": parallel.ep,
        "dp": parallel.dp,
        "context": scenario.context,
        "concurrency": scenario.concurrency,
        "kv_cache_dtype": scenario.kv_dtype,
        "pool": scenario.pool.value,
        "mtp": scenario.use_mtp,
        "draft_tokens": scenario.draft_tokens,
        "weights_bytes_total": plan.model.checkpoint_bytes,
        "weights_bytes_per_gpu": plan.weights_per_gpu,
        "weights_bytes_by_kind": dict(plan.weights),
        "start_bytes": {"bytes": int(plan.start.value), "source": plan.start.source},
        "kv_bytes_per_token": kv.total,
        "kv_bytes_per_token_by_part": {
            "latents": kv.latents,
            "indexer_keys": kv.index_keys,
            "of_these_never_read": kv.unread,
            "mtp_layer": kv.mtp,
        },
        "kv_bytes_per_token_in_sglangs_formula": kv.accounted,
        "kv_pool_bytes": plan.pool_bytes,
        "workspaces": {w.name: {"bytes": w.num_bytes, "source": w.source} for w in plan.workspaces},
        "left_bytes": plan.left_bytes,
        "mem_fraction_static": plan.mem_fraction_static,
        "max_tokens": plan.max_tokens,
        "full_context_requests": plan.full_requests,
        "fits": problem is None,
        "problem": str(problem) if problem else None,
        "command": launch_command(plan),
    }

"""One GPU's memory as a stacked bar a plan. The planner's only user of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence

from sglang_glm52.planner.budget import Plan
from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.report import sections


def picture(plans: Sequence[Plan]) -> bytes:
    """PNG; ModuleNotFoundError without matplotlib (the extra `plot`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 + 2.0 * len(plans), 6.5), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{plan.model.form}\n{plan.max_tokens:,} tokens in a KV pool" for plan in plans]
    bottoms = [0.0] * len(plans)
    for number, (name, sizes) in enumerate(_bars(plans)):
        axes.bar(labels, sizes, bottom=bottoms, width=0.6, label=name, color=f"C{number}")
        bottoms = [bottom + size for bottom, size in zip(bottoms, sizes, strict=True)]
    gpu, scenario = plans[0].scenario.gpu, plans[0].scenario
    axes.axhline(
        gpu.total_gib, color="black", linestyle="--", linewidth=1.0, label=f"{gpu.name}: {gpu.total_gib:.1f} GiB"
    )
    axes.set_ylabel("GiB on each GPU")
    axes.set_title(f"tp {scenario.parallel.tp}, {scenario.context} tokens, {scenario.kv_dtype} KV cache")
    figure.legend(loc="outside right upper")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})  # no version in it: the same bytes anywhere
    return out.getvalue()


def _bars(plans: Sequence[Plan]) -> list[tuple[str, list[float]]]:
    """(name, GiB of each plan), the table's rows summed to what an eye can tell apart."""
    summed: dict[str, list[float]] = {}
    for column, plan in enumerate(plans):
        for name, size in sections(plan):
            if size > 0 and name != "left over":
                summed.setdefault(_bar_of(name), [0.0] * len(plans))[column] += size / GIB
    return list(summed.items())


def _bar_of(section: str) -> str:
    if section.startswith("weights: ") and section != "weights: routed experts":
        return "weights: MTP layer" if section == "weights: MTP layer" else "weights: the rest"
    if section.startswith(("weights: ", "KV cache: ", "in use before")):
        return section
    return "workspaces"

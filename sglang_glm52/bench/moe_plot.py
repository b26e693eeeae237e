"""Time by number of tokens over the roofline, as a picture. Needs matplotlib, the extra `plot`."""

from __future__ import annotations

import io

from sglang_glm52.bench.moe_contenders import HOST, OURS
from sglang_glm52.bench.moe_result import MoeResult

_WIDE = (OURS, HOST)


def picture(found: MoeResult) -> bytes:
    """PNG, both axes logarithmic; ModuleNotFoundError without matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(9.0, 5.5), layout="constrained")
    axes = figure.add_subplot()
    tokens = [point.tokens for point in found.points]
    floor = [point.floor_us for point in found.points]
    axes.plot(tokens, floor, "--", color="black", label="floor: memory or FP8 tensor cores")
    for number, name in enumerate(found.contenders):
        measured = [(row.tokens, row.us.median) for row in found.rows if row.contender == name and row.us]
        if measured:
            width = 2.5 if name in _WIDE else 1.2
            axes.plot(*zip(*measured, strict=True), marker=".", linewidth=width, color=f"C{number}", label=name)
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log", base=2)
        axis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(tokens)
    axes.set_xlabel("tokens")
    axes.set_ylabel("us a call")
    settings = found.settings
    axes.set_title(
        f"routed experts, hidden {settings['hidden']}, inner {settings['inner']}, {settings['experts']} experts, "
        f"top-{settings['topk']}: {found.environment.gpu}"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})  # no version in it: the same bytes anywhere
    return out.getvalue()

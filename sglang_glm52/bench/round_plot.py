"""Speed of one stream by acceptance, as a picture. Needs matplotlib, the extra `plot`."""

from __future__ import annotations

import io
from collections.abc import Sequence

from sglang_glm52.bench.stream_speed import StreamSpeed

STYLES = {"host": "--", "ours": "-"}
POINTS = 101


def picture(speeds: Sequence[StreamSpeed], title: str) -> bytes:
    """PNG: tokens a second by the chance that a draft token is accepted; ModuleNotFoundError without matplotlib."""
    from matplotlib.figure import Figure

    probabilities = [i / (POINTS - 1) for i in range(POINTS)]
    settings = list(dict.fromkeys(speed.speculation for speed in speeds))  # one colour each, the same for both classes
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for speed in speeds:
        color = "black" if speed.speculation is None else f"C{settings.index(speed.speculation)}"
        heights = [speed.tokens_per_second(p) for p in probabilities]
        axes.plot(probabilities, heights, STYLES[speed.which], color=color, label=speed.label)
    axes.set_xlabel("probability that a draft token is accepted")
    axes.set_ylabel("tokens a second, one stream, without all-reduces")
    axes.set_title(title)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.3)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})  # no version in it: the same bytes anywhere
    return out.getvalue()

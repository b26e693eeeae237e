"""Device memory over time, as a picture. Needs matplotlib, the extra `plot`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby

from sglang_glm52.bench.window_memory import Sample

STYLES = {"host": "--", "ours": "-"}


def picture(samples: Sequence[Sample], title: str) -> bytes:
    """PNG: GB in use by seconds, a line a class and a colour a phase; ModuleNotFoundError without matplotlib."""
    from matplotlib.figure import Figure

    phases = list(dict.fromkeys(sample.phase for sample in samples))  # one colour each, the same for both classes
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for (which, phase), group in groupby(samples, key=lambda sample: (sample.which, sample.phase)):
        points = [(sample.seconds, sample.used_bytes / 1e9) for sample in group]
        axes.plot(*zip(*points, strict=True), STYLES[which], color=f"C{phases.index(phase)}", label=f"{which}, {phase}")
    axes.set_xlabel("seconds since the worker's start")
    axes.set_ylabel("device memory in use, GB")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})  # no version in it: the same bytes anywhere
    return out.getvalue()

"""quantize_error.png: the experts' relative error by layer and projection."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

PICTURE_FILE = "quantize_error.png"
_LABELS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
_STYLES = ("--", "-", ":", "-.")


def picture(report: Mapping[str, Any]) -> bytes:
    """PNG of a report; ModuleNotFoundError without matplotlib (the extra `plot`)."""
    from matplotlib.figure import Figure

    by_layer = report["int4_error"]["by_layer"]
    layers = sorted(map(int, by_layer))
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for color, (projection, label) in enumerate(_LABELS.items()):
        for style, method in zip(_STYLES, report["int4_error"]["all"], strict=False):
            percent = [100 * by_layer[str(layer)][projection][method] for layer in layers]
            axes.plot(layers, percent, style, color=f"C{color}", marker=".", label=f"{label}, {method}")
    axes.set_xlabel("layer")
    axes.set_ylabel("relative error of the weights, %")
    axes.set_title(f"{report['source']['name']}: routed experts in int4, written with {report['arguments']['method']}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(_LABELS))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})  # no version in it: the same bytes anywhere
    return out.getvalue()

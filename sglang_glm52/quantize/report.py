"""quantize_report.json: what was converted, and the relative error of each weight by every method.

Nothing in it depends on when or how fast it was made: the same arguments give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sglang_glm52.errors import CheckpointError
from sglang_glm52.formats.int4_group import METHODS, WeightError
from sglang_glm52.models.weights import is_routed_expert, layer_of
from sglang_glm52.quantize.resume import Arguments
from sglang_glm52.quantize.source import Source
from sglang_glm52.quantize.target import Target
from sglang_glm52.quantize.work import FP8_METHOD, Figures

REPORT_FILE = "quantize_report.json"
_FIELDS = ("arguments", "source", "output", "int4_error", "tensors")
HASH = "sha256_128"  # the first 128 bits
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def make_report(source: Source, target: Target, arguments: Arguments, figures: Mapping[str, Figures]) -> dict[str, Any]:
    """The report's content. `figures`: those of every converted weight."""
    converted = {step.weight.name: figures[step.weight.name] for step in target.steps if step.weight.name in figures}
    experts = {name: found for name, found in converted.items() if is_routed_expert(name)}
    others = [found.errors[FP8_METHOD] for name, found in converted.items() if name not in experts]
    return {
        "arguments": asdict(arguments),
        "source": {"name": source.folder.resolve().name, "form": source.form, "tensor_bytes": target.source_bytes},
        "output": {"files": len(target.sizes), "file_bytes": target.total_bytes},
        "int4_error": _tables(experts),
        "fp8_error": _rounded(_sum(others)) if others else None,  # of what a BF16 source had no FP8 blocks for
        "tensors": {name: _tensor(found) for name, found in converted.items()},
    }


def report_bytes(report: Mapping[str, Any]) -> bytes:
    """JSON with one line for each tensor: there are tens of thousands."""
    head = json.dumps({key: value for key, value in report.items() if key != "tensors"}, indent=2)
    tensors = (f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in report["tensors"].items())
    return (head.removesuffix("\n}") + ',\n  "tensors": {\n' + ",\n".join(tensors) + "\n  }\n}\n").encode()


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a finished conversion; CheckpointError if it cannot be read."""
    file = folder / REPORT_FILE
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        wrong = [field for field in _FIELDS if not isinstance(report.get(field), dict)]
        if wrong:
            raise ValueError(f"it lacks {', '.join(wrong)}")
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} does not exist; name the folder that glm52 quantize has written") from error
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} is no report of glm52 quantize ({error}); quantise into a new folder") from error
    return report


def _tables(experts: Mapping[str, Figures]) -> dict[str, Any]:
    """Relative errors of both methods: over all experts, by projection, and by layer and projection."""
    cells: dict[tuple[str, str], list[Figures]] = {}
    for name, found in experts.items():
        cells.setdefault((str(layer_of(name)), name.split(".")[-2]), []).append(found)
    by_layer: dict[str, dict[str, Any]] = {}
    for (layer, projection), found in cells.items():
        by_layer.setdefault(layer, {})[projection] = _by_method(found)
    return {
        "all": _by_method(experts.values()),
        "by_projection": {
            projection: _by_method(one for (_, which), found in cells.items() if which == projection for one in found)
            for projection in PROJECTIONS
        },
        "by_layer": by_layer,
    }


def _by_method(figures: Iterable[Figures]) -> dict[str, float]:
    found = list(figures)
    return {method: _rounded(_sum(one.errors[method] for one in found)) for method in METHODS}


def _sum(errors: Iterable[WeightError]) -> WeightError:
    return sum(errors, start=WeightError(0.0, 0.0))


def _rounded(error: WeightError) -> float:
    return float(f"{error.relative:.6g}")


def _tensor(figures: Figures) -> dict[str, Any]:
    errors = {method: _rounded(error) for method, error in figures.errors.items()}
    return {"error": errors, HASH: dict(figures.digests)}

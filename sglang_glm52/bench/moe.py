"""`glm52 bench moe`: the routed experts of one layer, this package's op beside SGLang's and other libraries'.

Every contender gets the same weights and the same calls, in CUDA graphs that rotate several sets of weights, so that
none reads them from a cache. What is not installed, fails or computes something else is a line that says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sglang_glm52.bench.moe_contenders import CONTENDERS, OURS
from sglang_glm52.bench.moe_options import add_arguments, check, contender_names
from sglang_glm52.bench.moe_plot import picture
from sglang_glm52.bench.moe_report import sections, summary
from sglang_glm52.bench.moe_result import MoeResult, Row
from sglang_glm52.bench.record import Record, current_environment
from sglang_glm52.errors import ConfigError

__all__ = ["add_arguments", "run"]

WEIGHT_SETS, ROUTINGS = 3, 16


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables and one JSON line; 1 if this package's own op failed somewhere.

    Raises:
        ConfigError: no CUDA GPU, or an option out of range.
    """
    check(args)
    found = _read(args.source) if args.source else _measure(args)
    if args.plot is not None:
        args.plot.write_bytes(picture(found))
    print("\n\n".join(sections(found)))
    record = Record(bench="moe", settings=found.settings, environment=found.environment, results=summary(found))
    print(record.json_line())
    return 1 if any(row.problem for row in found.rows if row.contender == OURS) else 0


def _read(path: Path) -> MoeResult:
    try:
        return MoeResult.read(path)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--from {path}: not a file that `glm52 bench moe --out` wrote ({error!r})") from None


def _measure(args: argparse.Namespace) -> MoeResult:
    import torch

    from sglang_glm52.bench.moe_contest import Contest, point_of
    from sglang_glm52.bench.moe_layer import case_of, make_layers, make_routings
    from sglang_glm52.bench.moe_measure import copy_bytes_per_second
    from sglang_glm52.kernels.int4_experts.bench import FP8_FLOPS, Limits

    if not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU was found; the routed experts need one with FP8, such as an H100 or H200")
    limits = Limits(copy_bytes_per_second(), FP8_FLOPS.get(torch.cuda.get_device_name(0)))
    cases = {tokens: case_of(tokens, args.inner, args.routing) for tokens in args.tokens}
    layers = make_layers(WEIGHT_SETS, args.inner, "cuda")
    routings = {tokens: make_routings(ROUTINGS, case, "cuda") for tokens, case in cases.items()}
    found = MoeResult(
        settings=_settings(args),
        environment=current_environment(),
        bytes_per_second=limits.bytes_per_second,
        points=[point_of(case, routings[tokens], limits) for tokens, case in cases.items()],
    )
    contest = Contest(layers, routings)
    for name in contender_names(args):
        for row in contest.run(CONTENDERS[name]):
            _keep(row, found, args.out)
        torch.cuda.empty_cache()  # of this contender's weights
    return found


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    from sglang_glm52.bench.moe_layer import EXPERTS, HIDDEN, TOPK

    return {
        **{name: getattr(args, name) for name in ("tokens", "inner", "routing", "which", "tune")},
        **{"hidden": HIDDEN, "experts": EXPERTS, "topk": TOPK, "weight_sets": WEIGHT_SETS, "routings": ROUTINGS},
    }


def _keep(row: Row, found: MoeResult, out: Path | None) -> None:
    found.rows.append(row)
    print(f"{row.contender}, {row.tokens} tokens: {row.problem or f'{row.us.median:.1f} us'}", file=sys.stderr)
    if out is not None:
        found.write(out)

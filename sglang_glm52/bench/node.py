"""`glm52 bench node`: a node's server with SGLang's model class and with this package's, under SGLang's own client.

For each class and each setting of speculation one server is started with the published flags: its memory beside what
`glm52 plan` predicts, one prompt of a million tokens, one stream, and many streams at a time. Without --model the
published model is served with weights drawn from a seed. With --out each phase is kept as soon as it is over, and a
later call measures what is missing.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from sglang_glm52.bench.node_memory import require_memory
from sglang_glm52.bench.node_model import has_weights, published_config, write_unweighted
from sglang_glm52.bench.node_options import add_arguments, check, make_spec
from sglang_glm52.bench.node_report import sections, summary
from sglang_glm52.bench.node_run import ERROR, NodeRun, measure
from sglang_glm52.bench.node_spec import NodeSpec, row_name, speculation_name
from sglang_glm52.bench.record import Environment, Record
from sglang_glm52.bench.shard_spec import Which
from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.bench.window_file import PhaseResult, latest, read_results, require_settings
from sglang_glm52.bench.window_worker import environment
from sglang_glm52.errors import ConfigError
from sglang_glm52.testing.process_group import interrupted_by

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Measure what --out lacks, print the tables and one JSON line; 1 if a server or a phase failed.

    Raises:
        ConfigError: an option out of range, too few or too small GPUs, or a file that other settings began.
    """
    check(args)
    with tempfile.TemporaryDirectory(prefix="glm52-node-") as name, interrupted_by(signal.SIGTERM, signal.SIGHUP):
        folder = Path(name)
        out = args.out or folder / "node.jsonl"
        spec = make_spec(args, _model_dir(args, folder))
        results = read_results(out)
        require_settings(out, results, spec.settings())
        servers = [(speculation, which) for speculation in args.speculative for which in args.which]
        _require_gpus(
            spec, [(how, which) for how, which in servers if missing_phases(results, which, how, args.phases)]
        )
        is_complete = all([_measure(args, spec, which, speculation, out, folder) for speculation, which in servers])
        results = read_results(out)
        if results:
            _report(results)
    return 0 if is_complete else 1


def missing_phases(
    results: list[PhaseResult], which: Which, speculation: Speculation | None, phases: tuple[str, ...]
) -> list[str]:
    """Those of `phases` that no row has without an error."""
    rows = latest(results).get(which, {})
    done = {name for name, row in rows.items() if ERROR not in row.values}
    return [phase for phase in phases if row_name(speculation_name(speculation), phase) not in done]


def _model_dir(args: argparse.Namespace, folder: Path) -> Path:
    """A folder that a server can be given."""
    if args.model is not None and has_weights(args.model):
        return args.model
    config = (
        published_config(args.layers) if args.model is None else json.loads((args.model / "config.json").read_text())
    )
    return write_unweighted(folder / "model", config)


def _measure(
    args: argparse.Namespace, spec: NodeSpec, which: Which, speculation: Speculation | None, out: Path, folder: Path
) -> bool:
    """Start one server for the phases that `out` lacks; whether it has them all now."""
    missing = missing_phases(read_results(out), which, speculation, args.phases)
    if not missing:
        return True
    label = speculation_name(speculation)
    node_run = NodeRun(
        spec=spec,
        which=which,
        speculation=speculation,
        start_timeout=args.start_timeout,
        phase_timeout=args.phase_timeout,
    )
    keep = partial(_keep, spec, environment(spec.device), which, label, out)
    print(f"[{which}, {label}] starting a server", file=sys.stderr, flush=True)
    return measure(node_run, missing, out.with_suffix(f".{which}.{label}.log"), folder, keep)


def _require_gpus(spec: NodeSpec, servers: list[tuple[Speculation | None, Which]]) -> None:
    """As many as these servers need, each with the memory that is planned."""
    if spec.device == "cpu" or not servers:
        return
    import torch

    found = torch.cuda.device_count()
    if found < spec.tp:
        raise ConfigError(f"--tp {spec.tp}: {found} CUDA GPUs were found; lower --tp, or --device cpu for a tiny model")
    require_memory(spec, servers, torch.cuda.get_device_properties(0).total_memory)


def _keep(
    spec: NodeSpec, where: Environment, which: Which, label: str, out: Path, phase: str, values: dict[str, Any]
) -> None:
    name = row_name(label, phase)
    result = PhaseResult(which=which, phase=name, settings=spec.settings(), environment=where, values=values)
    result.append_to(out)
    print(f"[{which}, {label}] {phase}: {values}", file=sys.stderr, flush=True)


def _report(results: list[PhaseResult]) -> None:
    first, found = results[0], latest(results)
    print("\n\n".join(sections(found, first.settings)), end="\n\n")
    record = Record(bench="node", settings=first.settings, environment=first.environment, results=summary(found))
    print(record.json_line())

"""`glm52 bench window`: prompts of the whole window on one GPU, with the host's model class and with this package's.

An engine is started as a user would start it, and gets: prompts of middle length, a prompt of the whole window, another
one that evicts it from the radix cache, and many short ones. Time to first token, decode steps and device memory are
recorded; with --out each phase as soon as it is over, so that a later call goes on where this one was cut off.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from sglang_glm52.bench.record import Record
from sglang_glm52.bench.shard import worker_environ
from sglang_glm52.bench.shard_config import write_model
from sglang_glm52.bench.window_file import latest, read_results, require_settings
from sglang_glm52.bench.window_memory import read_samples
from sglang_glm52.bench.window_options import add_arguments, chosen_phases, make_spec
from sglang_glm52.bench.window_plot import picture
from sglang_glm52.bench.window_report import report, summary
from sglang_glm52.bench.window_spec import WindowSpec
from sglang_glm52.bench.worker_process import run_worker
from sglang_glm52.errors import ConfigError
from sglang_glm52.outputs import check_outputs

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Measure what --out lacks, print a table and one JSON line; 1 if a measuring process failed.

    Raises:
        ConfigError: an option out of range, or a file that other settings began.
    """
    _check(args)
    with tempfile.TemporaryDirectory(prefix="glm52-window-") as folder:
        out = args.out or Path(folder) / "window.jsonl"
        model_dir = args.model or write_model(Path(folder) / "model", args.format, args.layers)
        is_complete = all(_measure(make_spec(args, which, model_dir), args, out) for which in args.which)
        if read_results(out):
            _report(args, out)
    return 0 if is_complete else 1


def _check(args: argparse.Namespace) -> None:
    """Raise ConfigError for what would fail after the measurement."""
    check_outputs(out=args.out, plot=args.plot)
    if args.model is not None and not (args.model / "config.json").exists():
        raise ConfigError(f"--model {args.model}: there is no config.json in it")


def _measure(spec: WindowSpec, args: argparse.Namespace, out: Path) -> bool:
    """Run the worker of one class for the phases that `out` lacks; whether it succeeded."""
    known = [result for result in read_results(out) if result.which == spec.which]
    require_settings(out, known, spec.settings())
    missing = [phase for phase in chosen_phases(args, spec) if phase not in {result.phase for result in known}]
    if not missing:
        return True
    words = ["--spec", spec.to_json(), "--phases", ",".join(missing), "--out", str(out), "--memory", str(_memory(out))]
    command = [sys.executable, "-m", "sglang_glm52.bench.window_worker", *words]
    status = run_worker(command, worker_environ(spec.which, os.environ), lambda: None)
    if status != 0:
        print(f"measuring {spec.which} failed with exit status {status}; its output is above", file=sys.stderr)
    return status == 0


def _memory(out: Path) -> Path:
    return out.with_suffix(".memory.csv")


def _report(args: argparse.Namespace, out: Path) -> None:
    results = read_results(out)
    first = results[0]
    found = latest(results)
    if args.plot is not None:
        title = f"{first.settings['model']}, prompts of {first.settings['prompt']} tokens, {first.environment.gpu}"
        args.plot.write_bytes(picture(read_samples(_memory(out)), title))
    print(report(found, first.settings["prompt"]), end="\n\n")
    record = Record(bench="window", settings=first.settings, environment=first.environment, results=summary(found))
    print(record.json_line())

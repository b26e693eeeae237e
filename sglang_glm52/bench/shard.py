"""`glm52 bench shard`: what one GPU of eight does per step, with the host's model class and with this package's.

A step is a prefill chunk or a decode step, and with --speculative a round of EAGLE: draft, verify, draft-extend. Each
class runs in a process of its own, one after the other with the same flags, weights and prompts. SGLANG_PLUGINS decides
which class SGLang serves: a name that no plugin has leaves the host's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sglang_glm52.bench.record import Record
from sglang_glm52.bench.round_plot import picture
from sglang_glm52.bench.round_report import round_sections
from sglang_glm52.bench.shard_capacity import check_fits
from sglang_glm52.bench.shard_config import write_model
from sglang_glm52.bench.shard_file import ShardFile
from sglang_glm52.bench.shard_options import add_arguments, check, settings
from sglang_glm52.bench.shard_report import report, summary
from sglang_glm52.bench.shard_result import ShardResult
from sglang_glm52.bench.shard_spec import PLUGINS, ShardSpec
from sglang_glm52.bench.stream_speed import speed_numbers, stream_speeds
from sglang_glm52.bench.worker_process import run_worker
from sglang_glm52.errors import ConfigError

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables and one JSON line; 1 if a measuring process failed, with what was measured before it.

    Raises:
        ConfigError: no CUDA GPU, or an option out of range.
        CapacityError: the weights do not fit the GPU.
    """
    check(args)
    if args.source is not None:
        _report(args, ShardFile.read(args.source))
        return 0
    check_fits(args.format, args.layers, _gpu_gb())
    found, is_complete = _measure(args)
    if found.results:
        _report(args, found)
    return 0 if is_complete else 1


def worker_environ(which: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a measuring process."""
    return {
        # DeepGEMM would compile every shape up to the chunk before the first step; those in use compile when used.
        "SGLANG_JIT_DEEPGEMM_PRECOMPILE": "0",
        **environ,
        "SGLANG_PLUGINS": PLUGINS[which],
        "PYTHONUNBUFFERED": "1",
    }


def _gpu_gb() -> float:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU was found; the shard needs one with FP8, such as an H100 or H200")
    return torch.cuda.get_device_properties(0).total_memory / 1e9


def _measure(args: argparse.Namespace) -> tuple[ShardFile, bool]:
    """What was measured, and whether that is all."""
    found = ShardFile(settings(args), {})
    with tempfile.TemporaryDirectory(prefix="glm52-shard-") as folder:
        model_dir = write_model(Path(folder) / "model", args.format, args.layers)
        for which in args.which:
            path = Path(folder) / f"{which}.json"
            spec = _spec(args, which, model_dir)
            keep = partial(_keep, found, which, path, args.out)
            status = run_worker(_command(spec, path), worker_environ(which, os.environ), keep)
            if status != 0:
                print(f"measuring {which} failed with exit status {status}; its output is above", file=sys.stderr)
                return found, False
    return found, True


def _spec(args: argparse.Namespace, which: str, model_dir: Path) -> ShardSpec:
    return ShardSpec(
        which=which,
        model_dir=str(model_dir),
        fmt=args.format,
        batches=args.batch,
        context=args.context,
        chunk=args.chunk,
        kv=args.kv,
        fuse_shared_experts=args.fuse_shared_experts,
        seed=args.seed,
        log_level=args.log_level,
        speculations=args.speculative,
    )


def _command(spec: ShardSpec, result: Path) -> list[str]:
    module = f"sglang_glm52.bench.{'round' if spec.speculations else 'shard'}_worker"
    return [sys.executable, "-m", module, "--spec", spec.to_json(), "--result", str(result)]


def _keep(found: ShardFile, which: str, path: Path, out: Path | None) -> None:
    """Take over what the worker has written so far."""
    if path.exists():
        found.results[which] = ShardResult.read(path)
        if out is not None:
            found.write(out)


def _report(args: argparse.Namespace, found: ShardFile) -> None:
    speeds = stream_speeds(found.results)
    if args.plot is not None:
        args.plot.write_bytes(picture(speeds, f"GLM-5.2, {found.settings['format']}, one rank of eight"))
    numbers = summary(found.results)
    if found.settings["speculative"]:
        numbers["tok_s"] = speed_numbers(speeds)
        print("\n\n".join(round_sections(found.results, speeds)), end="\n\n")
    print(report(found.results, args.kernels))
    environment = next(iter(found.results.values())).environment
    print(Record(bench="shard", settings=found.settings, environment=environment, results=numbers).json_line())

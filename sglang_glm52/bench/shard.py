"""`glm52 bench shard`: what one GPU of eight does per step, with the host's model class and with this package's.

Each class runs in a process of its own, one after the other with the same flags, weights and prompts. SGLANG_PLUGINS
decides which class SGLang serves: a name that no plugin has leaves the host's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sglang_glm52.bench.record import Record
from sglang_glm52.bench.shard_capacity import check_fits
from sglang_glm52.bench.shard_config import NUM_LAYERS, PUBLISHED, write_model
from sglang_glm52.bench.shard_report import report, summary
from sglang_glm52.bench.shard_result import ShardResult
from sglang_glm52.bench.shard_spec import MAX_NEW_TOKENS, ShardSpec
from sglang_glm52.errors import ConfigError

PLUGINS = {"host": "none", "ours": "glm52"}  # SGLANG_PLUGINS: the plugins a process loads
STDERR = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("fp8", "w4afp8"), default="fp8", help="quantisation of the experts")
    parser.add_argument("--layers", type=int, default=NUM_LAYERS, help="cut the model to this many layers")
    parser.add_argument("--batch", type=_positive_list, default=(1, 16), metavar="N,N", help="decode batch sizes")
    parser.add_argument("--context", type=_positive, default=4096, help="tokens in the KV cache of each request")
    parser.add_argument("--chunk", type=_positive, default=8192, help="tokens of the prefill chunk")
    parser.add_argument("--kv", choices=("fp8_e4m3", "bf16"), default="fp8_e4m3", help="dtype of the KV cache")
    parser.add_argument(
        "--which", type=_which_list, default=("host", "ours"), metavar="CLASS,CLASS", help="host, ours or both"
    )
    parser.add_argument(
        "--fuse-shared-experts",
        action="store_true",
        help="let the host compute the shared expert as a 257th routed one, its default for FP8",
    )
    parser.add_argument("--kernels", type=int, default=15, metavar="N", help="list the N longest kernels of each phase")
    parser.add_argument("--seed", type=int, default=1, help="of weights and prompts")
    parser.add_argument("--log-level", default="warning", help="of SGLang's own log, which goes to stderr")
    parser.add_argument("--out", type=Path, help="also write every kernel of every phase to this JSON file")


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables and one JSON line; 1 if a measuring process failed, with what was measured before it.

    Raises:
        ConfigError: no CUDA GPU, or an option out of range.
        CapacityError: the weights do not fit the GPU.
    """
    _check(args)
    check_fits(args.format, args.layers, _gpu_gb())
    results: dict[str, ShardResult] = {}
    with tempfile.TemporaryDirectory(prefix="glm52-shard-") as folder:
        model_dir = write_model(Path(folder) / "model", args.format, args.layers)
        for which in args.which:
            path = Path(folder) / f"{which}.json"
            status = _run_worker(_spec(args, which, model_dir), path)
            if status != 0:
                print(f"measuring {which} failed with exit status {status}; its output is above", file=sys.stderr)
                break
            results[which] = ShardResult.read(path)
    if results:
        _print(args, results)
    return 0 if len(results) == len(args.which) else 1


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the record says about how it was measured."""
    names = ("format", "layers", "batch", "context", "chunk", "kv", "which", "fuse_shared_experts", "seed")
    return {name: getattr(args, name) for name in names}


def _check(args: argparse.Namespace) -> None:
    longest = PUBLISHED["max_position_embeddings"] - MAX_NEW_TOKENS
    for option in ("context", "chunk"):
        if getattr(args, option) > longest:
            raise ConfigError(f"--{option} {getattr(args, option)}: GLM-5.2's window leaves room for {longest}")
    if max(args.batch) > args.chunk:
        raise ConfigError(f"--batch {max(args.batch)}: expected at most the {args.chunk} tokens of --chunk")
    if args.out is not None and not args.out.parent.is_dir():
        raise ConfigError(f"--out {args.out}: there is no folder {args.out.parent}; create it first")


def _gpu_gb() -> float:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU was found; the shard needs one with FP8, such as an H100 or H200")
    return torch.cuda.get_device_properties(0).total_memory / 1e9


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
    )


def worker_environ(which: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a measuring process."""
    return {
        # DeepGEMM would compile every shape up to the chunk before the first step; those in use compile when used.
        "SGLANG_JIT_DEEPGEMM_PRECOMPILE": "0",
        **environ,
        "SGLANG_PLUGINS": PLUGINS[which],
        "PYTHONUNBUFFERED": "1",
    }


def _run_worker(spec: ShardSpec, result: Path) -> int:
    module = "sglang_glm52.bench.shard_worker"
    command = [sys.executable, "-m", module, "--spec", spec.to_json(), "--result", str(result)]
    environ = worker_environ(spec.which, os.environ)
    return subprocess.run(command, stdout=STDERR, env=environ).returncode  # stdout is for the record alone


def _print(args: argparse.Namespace, results: dict[str, ShardResult]) -> None:
    environment = next(iter(results.values())).environment
    record = Record(bench="shard", settings=settings(args), environment=environment, results=summary(results))
    if args.out is not None:
        args.out.write_text(json.dumps({name: asdict(result) for name, result in results.items()}, indent=1))
    print(report(results, args.kernels))
    print(record.json_line())


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a positive number")
    return value


def _positive_list(text: str) -> tuple[int, ...]:
    return _list(text, _positive)


def _which_list(text: str) -> tuple[str, ...]:
    return _list(text, _one_of_plugins)


def _one_of_plugins(text: str) -> str:
    if text not in PLUGINS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {' or '.join(PLUGINS)}")
    return text


def _list(text: str, parse: Callable[[str], Any]) -> tuple[Any, ...]:
    values = tuple(parse(part) for part in text.split(","))
    if len(set(values)) != len(values):
        raise argparse.ArgumentTypeError(f"{text}: a value stands twice")
    return values

"""Options of `glm52 bench shard`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sglang_glm52.bench.shard_config import NUM_LAYERS, PUBLISHED
from sglang_glm52.bench.shard_spec import PLUGINS, new_tokens
from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.errors import ConfigError
from sglang_glm52.outputs import check_outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("fp8", "w4afp8"), default="fp8", help="quantisation of the experts")
    parser.add_argument("--layers", type=int, default=NUM_LAYERS, help="cut the model to this many layers")
    parser.add_argument("--batch", type=positive_list, default=(1, 16), metavar="N,N", help="decode batch sizes")
    parser.add_argument("--context", type=positive, default=4096, help="tokens in the KV cache of each request")
    parser.add_argument("--chunk", type=positive, default=8192, help="tokens of the prefill chunk")
    parser.add_argument("--kv", choices=("fp8_e4m3", "bf16"), default="fp8_e4m3", help="dtype of the KV cache")
    parser.add_argument(
        "--which", type=which_list, default=("host", "ours"), metavar="CLASS,CLASS", help="host, ours or both"
    )
    parser.add_argument(
        "--fuse-shared-experts",
        action="store_true",
        help="let the host compute the shared expert as a 257th routed one, its default for FP8",
    )
    parser.add_argument(
        "--speculative",
        type=_speculation_list,
        default=(),
        metavar="N-1-D,N-1-D",
        help="time EAGLE rounds of N steps and D = N + 1 draft tokens, and plain decode steps beside them, but no "
        "prefill, for instance 1-1-2,3-1-4,5-1-6; the one with most steps is measured first",
    )
    parser.add_argument("--kernels", type=int, default=15, metavar="N", help="list the N longest kernels of each phase")
    parser.add_argument("--seed", type=int, default=1, help="of weights and prompts")
    parser.add_argument("--log-level", default="warning", help="of SGLang's own log, which goes to stderr")
    parser.add_argument(
        "--out", type=Path, help="also write every kernel of every phase to this JSON file, while measuring"
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw one stream's speed over the acceptance")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="JSON", help="report what --out wrote and measure nothing"
    )


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the record says about how it was measured."""
    names = ("format", "layers", "batch", "context", "chunk", "kv", "which", "fuse_shared_experts", "seed")
    return {**{name: getattr(args, name) for name in names}, "speculative": [str(each) for each in args.speculative]}


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for what would fail after the measurement."""
    check_outputs(out=args.out, plot=args.plot)
    if args.source is not None:
        return
    if args.plot is not None and not (args.speculative and 1 in args.batch):
        raise ConfigError("--plot draws rounds at batch 1; add --speculative 3-1-4 and 1 to --batch, or use --from")
    longest = PUBLISHED["max_position_embeddings"] - new_tokens(args.speculative)
    for option in ("context", "chunk"):
        if getattr(args, option) > longest:
            raise ConfigError(f"--{option} {getattr(args, option)}: GLM-5.2's window leaves room for {longest}")
    if max(args.batch) > args.chunk:
        raise ConfigError(f"--batch {max(args.batch)}: expected at most the {args.chunk} tokens of --chunk")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a positive number")
    return value


def positive_list(text: str) -> tuple[int, ...]:
    return _list(text, positive)


def which_list(text: str) -> tuple[str, ...]:
    return _list(text, _one_of_plugins)


def _one_of_plugins(text: str) -> str:
    if text not in PLUGINS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {' or '.join(PLUGINS)}")
    return text


def _speculation_list(text: str) -> tuple[Speculation, ...]:
    """Most steps first: an engine's buffers are made for its first setting."""
    return tuple(sorted(_list(text, _speculation), key=lambda each: each.steps, reverse=True))


def _speculation(text: str) -> Speculation:
    try:
        return Speculation.from_text(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _list(text: str, parse: Callable[[str], Any]) -> tuple[Any, ...]:
    values = tuple(parse(part) for part in text.split(","))
    if len(set(values)) != len(values):
        raise argparse.ArgumentTypeError(f"{text}: a value stands twice")
    return values

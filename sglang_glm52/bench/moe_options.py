"""Options of `glm52 bench moe`."""

from __future__ import annotations

import argparse
from pathlib import Path

from sglang_glm52.bench.moe_contenders import CHOICES, OURS, TUNED
from sglang_glm52.errors import ConfigError
from sglang_glm52.outputs import check_outputs

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 1024, 4096)
TIMED_ROUTINGS = ("uniform", "power-law")
_GROUP = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=_tokens, default=TOKENS, metavar="N,N", help="numbers of tokens of a call")
    parser.add_argument("--inner", type=int, default=256, help="width of an expert on a rank (default 256: TP 8)")
    parser.add_argument("--routing", choices=TIMED_ROUTINGS, default="uniform", help="how tokens spread over experts")
    parser.add_argument(
        "--which",
        type=_which,
        default=tuple(CHOICES),
        metavar="NAME,NAME",
        help=f"{', '.join(CHOICES)} (default: all)",
    )
    parser.add_argument(
        "--tune", action="store_true", help="also time both of our paths, and print the entry of their table"
    )
    parser.add_argument("--out", type=Path, metavar="JSON", help="also write every number, while measuring")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw time by number of tokens")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="JSON", help="report what --out wrote and measure nothing"
    )


def contender_names(args: argparse.Namespace) -> list[str]:
    """In the order in which they are measured: our own first, whatever happens to the others."""
    names = [name for choice in CHOICES if choice in args.which for name in CHOICES[choice]]
    ours = [name for name in names if name == OURS]
    return [*ours, *(TUNED if args.tune else ()), *(name for name in names if name != OURS)]


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for what would fail after the measurement, or while it is prepared."""
    check_outputs(out=args.out, plot=args.plot)
    if args.source is not None and not args.source.is_file():
        raise ConfigError(f"--from {args.source}: there is no such file; --out writes one")
    if args.inner < _GROUP or args.inner % _GROUP:
        raise ConfigError(f"--inner {args.inner}: expected a multiple of {_GROUP}, the int4 group")


def _tokens(text: str) -> tuple[int, ...]:
    values = tuple(sorted(int(part) for part in text.split(",")))
    if values[0] < 1 or len(set(values)) != len(values):
        raise argparse.ArgumentTypeError(f"{text}: expected different numbers above 0")
    return values


def _which(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in CHOICES]
    if unknown or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text}: expected some of {', '.join(CHOICES)}, each once")
    return names

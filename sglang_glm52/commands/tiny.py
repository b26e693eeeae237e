"""`glm52 tiny OUT`: write a small random checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sglang_glm52.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="directory to write; must be absent or empty")
    parser.add_argument(
        "--preset", choices=("cpu", "gpu"), default="cpu", help="cpu: as small as can be; gpu: what CUDA kernels need"
    )
    parser.add_argument(
        "--format", choices=("bf16", "fp8", "w4afp8"), default="bf16", help="how the weights are stored"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed writes the same bytes")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="override a field of config.json; VALUE is JSON, or a plain string; may be repeated",
    )
    parser.add_argument(
        "--mtp-acceptance",
        type=float,
        metavar="P",
        help="make the MTP layer right about the greedy next token with this probability, 0 to 1 (default: random)",
    )


def run(args: argparse.Namespace) -> int:
    from sglang_glm52.tiny import build

    overrides = dict(parse_override(text) for text in args.overrides)
    build(args.out, args.preset, args.format, args.seed, overrides, args.mtp_acceptance)
    total_bytes = sum(file.stat().st_size for file in args.out.iterdir())
    drafts = "" if args.mtp_acceptance is None else f", MTP acceptance {args.mtp_acceptance}"
    print(f"{args.out}: {args.preset} preset, {args.format}, seed {args.seed}{drafts}, {total_bytes / 2**20:.1f} MiB")
    return 0


def parse_override(text: str) -> tuple[str, object]:
    """Split "key=value" and read the value as JSON where it is JSON; ConfigError if there is no "="."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConfigError(f"--set {text!r}: expected KEY=VALUE, such as --set num_hidden_layers=4")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value

"""`glm52 bench WHAT`: one measurement per module of sglang_glm52.bench."""

from __future__ import annotations

import argparse

from sglang_glm52.bench import parser as parser_bench
from sglang_glm52.bench import shard

BENCHES = {
    "parser": (parser_bench, "tool-call parser: one long streamed argument, the host's parser against this one"),
    "shard": (shard, "one rank of 8: decode step, prefill or EAGLE round, the host's model class against this one's"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(dest="bench", required=True, metavar="WHAT")
    for name, (module, summary) in BENCHES.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        module.add_arguments(subparser)
        subparser.set_defaults(run_bench=module.run)


def run(args: argparse.Namespace) -> int:
    return args.run_bench(args)

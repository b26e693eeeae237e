"""`glm52 demo`: the parser of sglang_glm52/demo.py."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", default="What is sparse attention?", help="the user's message")
    parser.add_argument("--max-tokens", type=int, default=24, help="tokens to generate in each answer")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="how long the server may take")


def run(args: argparse.Namespace) -> int:
    """Return 0 if the server answered both requests with this plugin in effect, else 1."""
    from sglang_glm52.demo import run_demo
    from sglang_glm52.testing.server import ServerError

    try:
        run_demo(args.prompt, args.max_tokens, args.timeout)
    except ServerError as error:
        print(f"glm52 demo: {error}", file=sys.stderr)
        return 1
    return 0

"""`glm52 verify SRC DST`: hold what `glm52 quantize` wrote to what it was made from."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

GB = 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", type=Path, help="folder of the checkpoint that was converted")
    parser.add_argument("dst", type=Path, help="folder that glm52 quantize has written")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Return 0 only if everything holds."""
    from sglang_glm52.quantize.verify import verify

    verdict = verify(args.src, args.dst)
    if args.json:
        print(json.dumps({**asdict(verdict), "ok": verdict.ok}))
        return 0 if verdict.ok else 1
    for problem in verdict.problems:
        print(f"problem: {problem}")
    print(
        f"{args.dst}: {verdict.copied} tensors compared with the source byte by byte, "
        f"{verdict.converted} weights by their error; {verdict.file_bytes / GB:.2f} GB expected"
    )
    print("all holds" if verdict.ok else f"it is not what was made from {args.src}")
    return 0 if verdict.ok else 1

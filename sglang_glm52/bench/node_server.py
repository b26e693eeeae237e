"""`python -m sglang.launch_server` with a scheduler that checks the model class and draws weights where there are none.

`python -m sglang_glm52.bench.node_server --package PACKAGE [--seeded] SERVER FLAGS`. SGLang's `launch_server` takes the
function that its scheduler processes run as an argument, so nothing of the host is changed in this process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from sglang_glm52.bench.window_scheduler import run_scheduler


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--package", required=True, help="where the model class must come from")
    parser.add_argument("--seeded", action="store_true", help="draw the weights from --random-seed")
    args, server_flags = parser.parse_known_args(argv)

    from sglang.srt.plugins import load_plugins

    load_plugins()
    from sglang.srt.entrypoints.http_server import launch_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    server_args = prepare_server_args(server_flags)
    scheduler = partial(run_scheduler, args.package, args.seeded)
    try:
        launch_server(server_args, run_scheduler_process_func=scheduler)
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main(sys.argv[1:])

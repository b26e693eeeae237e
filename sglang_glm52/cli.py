"""The `glm52` command: parses, calls, prints. One line per subcommand in COMMANDS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from sglang_glm52.errors import CapacityError, CheckpointError, ConfigError, HostMismatchError

# name -> (module with add_arguments(parser) and run(args) -> exit status, help); imported only when called
COMMANDS = {
    "doctor": ("sglang_glm52.commands.doctor", "show whether GLM-5.2 can be served here, and why not"),
    "tiny": ("sglang_glm52.commands.tiny", "write a small random GLM-5.2 checkpoint"),
    "quantize": ("sglang_glm52.commands.quantize", "turn an FP8 or BF16 checkpoint into W4AFP8"),
    "verify": ("sglang_glm52.commands.verify", "hold a W4AFP8 checkpoint to the one it was made from"),
    "plan": ("sglang_glm52.commands.plan", "show how a model fits GPUs, and the command to serve it with"),
    "bench": ("sglang_glm52.commands.bench", "measure, on a GPU or (parser) without one"),
    "demo": ("sglang_glm52.commands.demo", "serve a tiny GLM-5.2 on the CPU and ask it something"),
}
EXPECTED_ERRORS = (CapacityError, CheckpointError, ConfigError, HostMismatchError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status: 2 for a mistake in what it was given, 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parse(argv)
    try:
        return args.run(args)
    except EXPECTED_ERRORS as error:
        print(f"glm52 {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"glm52 {args.command}: interrupted", file=sys.stderr)
        return 130


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="glm52", description="Tools around GLM-5.2 on SGLang.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name in argv[:1]:
            module = import_module(module_name)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

"""`glm52 doctor`: print what host/doctor.py finds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang_glm52.host.doctor import Addition, Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Return 0 if SGLang, this plugin, its variables and the GPUs are such that a GLM-5.2 server can start.

    Its options, its checkpoint and memory are not looked at.
    """
    from sglang_glm52.host.doctor import examine

    report = examine()
    if args.json:
        print(json.dumps({**asdict(report), "can_serve": report.can_serve}))
    else:
        print("\n".join(_lines(report)))
    return 0 if report.can_serve else 1


def _lines(report: Report) -> Iterator[str]:
    yield f"SGLang {report.host} ({'tested' if report.is_host_tested else 'NOT tested'}), Python {report.python}"
    if report.gpus:
        yield f"GPU: {', '.join(report.gpus)}, driver {report.driver}; {report.engine} engine"
    else:
        yield f"GPU: none; {report.engine} engine"
    yield "packages: " + ", ".join(f"{name} {version}" for name, version in report.packages.items())
    for title, additions in (("registrations", report.registrations), ("hooks", report.hooks)):
        yield f"{title}: {len(additions) or 'none'}"
        yield from (f"  {_addition_line(addition)}" for addition in additions)
    yield from (f"problem: {problem}" for problem in report.problems)
    yield "a GLM-5.2 server can start here" if report.can_serve else "a GLM-5.2 server would refuse to start here"


def _addition_line(addition: Addition) -> str:
    why = f" ({addition.why})" if addition.why else ""
    return f"{addition.state:<10}  {addition.name}: {addition.where}{why}"

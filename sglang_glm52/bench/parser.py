"""`glm52 bench parser`: a long string argument streamed through SGLang's tool parser and this package's.

The host's scans all it has read again for each piece, so its time grows with the square of the length; it is measured
on a shorter argument, and compared with this package's parser on that same one. No GPU is used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sglang_glm52.bench.record import Record, cpu_environment, table
from sglang_glm52.bench.shard_options import positive
from sglang_glm52.errors import ConfigError

# Code and prose of many scripts, with what JSON escapes and what looks like a tag.
_SAMPLE = 'def f(x: int) -> str:\n    return "a" if x < 1 else f"{x}</b>"  # 数, été\n'
_BEFORE = "<tool_call>write<arg_key>path</arg_key><arg_value>a.py</arg_value><arg_key>content</arg_key><arg_value>"
_AFTER = "</arg_value></tool_call>"


@dataclass(frozen=True, slots=True)
class Timing:
    """One parser on one argument."""

    parser: str  # "host" or "ours"
    num_chars: int  # of the argument
    num_pieces: int
    seconds: float  # the best of the repeats

    @property
    def piece_us(self) -> float:
        return self.seconds / self.num_pieces * 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chars", type=positive, default=1_000_000, help="length of the argument; half is also run")
    parser.add_argument("--host-chars", type=positive, default=100_000, help="length of the argument for the host")
    parser.add_argument("--piece", type=positive, default=3, help="characters that arrive at a time")
    parser.add_argument("--repeats", type=positive, default=3, help="of this package's parser; the host's runs once")


def run(args: argparse.Namespace) -> int:
    """Measure, check that every stream gave back the argument, print the table and one JSON line.

    Raises:
        ConfigError: --chars is too small to halve.
    """
    if args.chars < 2:
        raise ConfigError(f"--chars {args.chars}: expected at least 2, to compare with half of it")
    timings = list(_measure(args))
    half, whole, same, host = timings
    results = {
        "timings": [asdict(timing) for timing in timings],
        "growth_for_twice_the_length": whole.seconds / half.seconds,
        "times_the_hosts_speed": host.seconds / same.seconds,
    }
    rows = [(t.parser, t.num_chars, t.num_pieces, f"{t.seconds:.3f}", f"{t.piece_us:.1f}") for t in timings]
    print(table(("parser", "characters", "pieces", "seconds", "us a piece"), rows))
    print(
        f"twice the length takes {results['growth_for_twice_the_length']:.2f} times as long; on {host.num_chars} "
        f"characters {results['times_the_hosts_speed']:.0f} times the host's speed"
    )
    settings = {name: getattr(args, name) for name in ("chars", "host_chars", "piece", "repeats")}
    print(Record(bench="parser", settings=settings, environment=cpu_environment(), results=results).json_line())
    return 0


def _measure(args: argparse.Namespace) -> Iterator[Timing]:
    from sglang.srt.function_call.glm47_moe_detector import Glm47MoeDetector

    from sglang_glm52.parsers.tool_call_glm47 import Glm47Detector

    for num_chars in (args.chars // 2, args.chars, args.host_chars):
        runs = [_time("ours", Glm47Detector, num_chars, args.piece) for _ in range(args.repeats)]
        yield min(runs, key=lambda timing: timing.seconds)
    yield _time("host", Glm47MoeDetector, args.host_chars, args.piece)


def _time(name: str, detector_class: type, num_chars: int, piece: int) -> Timing:
    from sglang.srt.entrypoints.openai.protocol import Tool

    properties = {"path": {"type": "string"}, "content": {"type": "string"}}
    tools = [Tool(type="function", function={"name": "write", "parameters": {"properties": properties}})]
    argument = (_SAMPLE * (num_chars // len(_SAMPLE) + 1))[:num_chars]
    text = _BEFORE + argument + _AFTER
    pieces = [text[at : at + piece] for at in range(0, len(text), piece)]
    detector: Any = detector_class()
    sent: list[str] = []
    start = time.perf_counter()
    for part in pieces:
        sent.extend(item.parameters for item in detector.parse_streaming_increment(part, tools).calls)
    if hasattr(detector, "finish"):
        sent.extend(item.parameters for item in detector.finish(tools).calls)
    seconds = time.perf_counter() - start
    _check(name, "".join(sent), argument)
    return Timing(name, num_chars, len(pieces), seconds)


def _check(name: str, sent: str, argument: str) -> None:
    """A parser that loses something could be fast: RuntimeError."""
    if json.loads(sent) != {"path": "a.py", "content": argument}:
        raise RuntimeError(f"the parser {name!r} did not give back the argument it was sent; its time means nothing")

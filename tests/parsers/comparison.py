"""The table host / ours of docs/parsers.md: `PYTHONPATH=tests python -m parsers.comparison` prints it."""

from __future__ import annotations

import logging

from parsers.feeding import TAGS_WHOLE, Result, parse_stream, parse_whole, reasoning_results, ways
from parsers.reasoning_cases import REASONING_CASES, ReasoningCase
from parsers.tool_cases import TOOL_CASES, TOOLS, ToolCase
from sglang.srt.function_call.glm47_moe_detector import Glm47MoeDetector
from sglang.srt.parser.reasoning_parser import Glm45Detector as HostGlm45Detector

from sglang_glm52.bench.record import table
from sglang_glm52.parsers.reasoning_glm45 import Glm45Detector
from sglang_glm52.parsers.tool_call_glm47 import Glm47Detector

TOOL_DETECTORS = {"host": Glm47MoeDetector, "ours": Glm47Detector}
REASONING_DETECTORS = {"host": HostGlm45Detector, "ours": Glm45Detector}


def tool_failures(side: str, case: ToolCase) -> list[str]:
    """The ways of feeding in which a client gets something else than the case says, spaces around text aside."""
    detector = TOOL_DETECTORS[side]
    expected = Result(case.content, case.calls).loosely
    results = {"whole": parse_whole(detector, case.text, TOOLS)}
    results |= {way: parse_stream(detector, pieces, TOOLS) for way, pieces in ways(case.text).items()}
    return [way for way, result in results.items() if result.loosely != expected]


def reasoning_failures(side: str, case: ReasoningCase) -> list[str]:
    expected = (case.reasoning, case.content)
    results = reasoning_results(REASONING_DETECTORS[side], case)
    return [way for way, result in results.items() if result != expected]


def verdict(failures: list[str]) -> str:
    """In a few words; a stream that cuts a tag, which a server's does not, counts only where all else is right."""
    if not failures:
        return "right"
    grave = [way for way in failures if way in TAGS_WHOLE]
    if not grave:
        return "wrong if a tag is cut"
    streamed = any(way != "whole" for way in grave)
    return "wrong: " + " and ".join(["whole"] * ("whole" in grave) + ["streamed"] * streamed)


def comparison() -> str:
    """Both tables, in Markdown."""
    parts = []
    for title, cases, failures in (
        ("Tool calls", TOOL_CASES, tool_failures),
        ("Reasoning", REASONING_CASES, reasoning_failures),
    ):
        rows = [(f"{c.name}: {c.why}", *(verdict(failures(side, c)) for side in ("host", "ours"))) for c in cases]
        parts.append(f"### {title}\n{table(('case', 'SGLang 0.5.13.post1', 'this package'), rows)}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # the host logs some of its failures
    print(comparison())

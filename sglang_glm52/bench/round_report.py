"""What rounds of speculation have besides the tables of every step: speed by acceptance, indexer runs, acceptance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from sglang_glm52.bench.kernel_table import KernelRow
from sglang_glm52.bench.record import table
from sglang_glm52.bench.shard_result import ShardResult
from sglang_glm52.bench.speculation import PROBABILITIES
from sglang_glm52.bench.stream_speed import StreamSpeed

CLASSES = ("host", "ours")


def round_sections(results: Mapping[str, ShardResult], speeds: Sequence[StreamSpeed]) -> Iterator[str]:
    """Tables for a terminal and for Markdown."""
    if speeds:
        yield _speed_table(speeds)
    phases = dict.fromkeys(name for result in results.values() for name in result.phases)
    yield _by_phase("indexer runs a step (launches of the logits kernel)", results, phases, _indexer_runs)
    rounds = dict.fromkeys(name for result in results.values() for name in result.accepted)
    yield _by_phase(
        "draft tokens of these random weights accepted a round, on which its time does not depend",
        results,
        rounds,
        _accepted,
    )


def indexer_runs(kernels: Sequence[KernelRow]) -> float:
    """How often a step computed index logits: once for each layer or draft step that selects positions itself."""
    return sum(row.launches for row in kernels if "mqa_logits" in row.name and "metadata" not in row.name)


def _speed_table(speeds: Sequence[StreamSpeed]) -> str:
    rows = [
        [speed.label, f"{speed.step_ms:.3f}", *(f"{speed.tokens_per_second(p):.1f}" for p in PROBABILITIES)]
        for speed in speeds
    ]
    return (
        "tokens a second of one stream if each draft token is accepted with probability p: "
        "(1 + p + ... + p^N) / round time\none rank of eight, without its all-reduces\n"
        + table(["", "step ms", *(f"p = {p:g}" for p in PROBABILITIES)], rows)
    )


def _by_phase(
    title: str,
    results: Mapping[str, ShardResult],
    phases: Iterable[str],
    value: Callable[[ShardResult, str], str | None],
) -> str:
    rows = [[name, *(value(results[c], name) if c in results else None for c in CLASSES)] for name in phases]
    return f"{title}\n" + table(["", *CLASSES], rows)


def _indexer_runs(result: ShardResult, phase: str) -> str | None:
    return f"{indexer_runs(result.phases[phase].kernels):g}" if phase in result.phases else None


def _accepted(result: ShardResult, phase: str) -> str | None:
    return f"{result.accepted[phase]:.3f}" if phase in result.accepted else None

"""Measures rounds of EAGLE speculation of one model class, in a process of its own that `glm52 bench shard` starts.

Target and draft are loaded once and serve every setting, as loading the shard takes longest. What was measured is
written after every phase.

Random weights accept next to no draft token. A round takes the same time whatever it accepts: draft, verify and
draft-extend always run all rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sglang_glm52.bench.record import current_environment
from sglang_glm52.bench.shard_result import Phase, ShardResult
from sglang_glm52.bench.shard_spec import DECODE_STEPS, DECODE_WARMUP, PACKAGES, PROFILED_DECODE_STEPS, ShardSpec
from sglang_glm52.bench.shard_worker import (
    prompts,
    require_finite,
    require_graphs,
    say,
    time_decode,
    time_phase,
)
from sglang_glm52.bench.speculation import Speculation, decode_phase, round_phase

if TYPE_CHECKING:
    from sglang_glm52.bench.round_engine import RoundEngine


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=ShardSpec.from_json, required=True)
    parser.add_argument("--result", type=Path, required=True)
    args = parser.parse_args(argv)
    measure(args.spec, args.result)
    return 0


def measure(spec: ShardSpec, path: Path) -> None:
    """The first setting's rounds, plain decode steps, then the other settings' rounds. Needs a GPU.

    Raises:
        HostMismatchError: SGLANG_PLUGINS let the other model class in.
        RuntimeError: no CUDA graph for a batch size, or values that are not finite.
    """
    engine = build_engine(spec)
    result = ShardResult(
        model_class=engine.model_class,
        environment=current_environment(),
        weight_gb=weight_gb(engine),
        experts_hit={},
        phases={},
        draft_class=engine.draft_class,
    )
    first, *others = spec.speculations
    result = measure_rounds(engine, spec, first, result, path)
    result = measure_decode(engine, spec, result, path)
    for speculation in others:
        result = measure_rounds(engine, spec, speculation, result, path)
    say(spec, "done")


def build_engine(spec: ShardSpec) -> RoundEngine:
    """Load the plugins as a server's processes do, then target and draft, and capture the first setting's graphs."""
    from sglang.srt.plugins import load_plugins

    load_plugins()  # before the engine's modules are imported: they bind what plugins replace
    from sglang_glm52.bench.round_engine import RoundEngine

    say(spec, f"loading and capturing CUDA graphs for {spec.speculations[0]}, which compiles what is not cached")
    engine = RoundEngine(spec.server_args(), PACKAGES[spec.which])
    say(spec, f"built {engine.model_class} and {engine.draft_class}")
    return engine


def weight_gb(engine: RoundEngine) -> float:
    """Of both models; the draft's embedding and head are the target's."""
    params = (param for runner in (engine.target, engine.draft) for param in runner.model.parameters())
    return sum({param.data_ptr(): param.nbytes for param in params}.values()) / 1e9


def measure_rounds(
    engine: RoundEngine, spec: ShardSpec, speculation: Speculation, so_far: ShardResult, path: Path
) -> ShardResult:
    """Add and write the rounds of one setting, every batch size."""
    say(spec, f"{speculation}: capturing CUDA graphs where they are not the first setting's")
    engine.configure(speculation)
    require_graphs(engine.captured_batches(), spec.batches)
    for batch in spec.batches:
        name = round_phase(speculation, batch)
        say(spec, name)
        phase, accepted = time_rounds(engine, spec, batch)
        so_far = replace(so_far, phases={**so_far.phases, name: phase}, accepted={**so_far.accepted, name: accepted})
        so_far.write(path)
        say(spec, f"{name}: {phase.wall_ms.median:.3f} ms a round, {accepted:.3f} draft tokens accepted")
    return so_far


def measure_decode(engine: RoundEngine, spec: ShardSpec, so_far: ShardResult, path: Path) -> ShardResult:
    """Add and write the plain decode steps, which an engine without speculation would run."""
    say(spec, "plain decode: capturing CUDA graphs")
    with engine.plain() as runner:
        require_graphs(runner.captured_batches(), spec.batches)
        for batch in spec.batches:
            phase = time_decode(runner, spec, batch)
            so_far = replace(so_far, phases={**so_far.phases, decode_phase(batch): phase})
            so_far.write(path)
            say(spec, f"{decode_phase(batch)}: {phase.wall_ms.median:.3f} ms a step")
    return so_far


def time_rounds(engine: RoundEngine, spec: ShardSpec, batch: int) -> tuple[Phase, float]:
    """Rounds from `spec.context` tokens on, and how many draft tokens they accept on average."""
    engine.start(prompts(engine, spec, batch, spec.context), spec.new_tokens)
    phase = time_phase(
        engine.step, DECODE_STEPS, DECODE_WARMUP, profiled_steps=PROFILED_DECODE_STEPS, stream=engine.stream
    )
    require_finite(engine.result.logits_output.next_token_logits, f"verify of batch {batch}")
    if not engine.result.can_run_cuda_graph:
        raise RuntimeError(f"the verify step of batch {batch} ran without its CUDA graph")
    accepted = engine.accepted()
    engine.stop()
    return phase, accepted


if __name__ == "__main__":
    sys.exit(main())

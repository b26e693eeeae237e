"""Measures one model class, in a process of its own that `glm52 bench shard` starts.

Which class it gets is decided by SGLANG_PLUGINS, as in a server; the worker checks that it is the one asked for.
"""

from __future__ import annotations

import argparse
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sglang_glm52.bench.kernel_table import tabulate
from sglang_glm52.bench.record import current_environment
from sglang_glm52.bench.routing import watch_routers
from sglang_glm52.bench.shard_config import PUBLISHED
from sglang_glm52.bench.shard_result import Phase, ShardResult
from sglang_glm52.bench.shard_spec import (
    DECODE_STEPS,
    DECODE_WARMUP,
    MAX_NEW_TOKENS,
    PACKAGES,
    PREFILL_STEPS,
    PREFILL_WARMUP,
    PROFILED_DECODE_STEPS,
    PROFILES,
    ShardSpec,
)
from sglang_glm52.bench.speculation import decode_phase
from sglang_glm52.bench.timer import profile, step_intervals_ms

if TYPE_CHECKING:
    from sglang_glm52.bench.batch_runner import BatchRunner
    from sglang_glm52.bench.round_engine import RoundEngine
    from sglang_glm52.bench.shard_engine import ShardEngine

_STARTED = time.monotonic()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=ShardSpec.from_json, required=True)
    parser.add_argument("--result", type=Path, required=True)
    args = parser.parse_args(argv)
    measure(args.spec).write(args.result)
    return 0


def measure(spec: ShardSpec) -> ShardResult:
    """Build the shard and time every phase. Needs a GPU.

    Raises:
        HostMismatchError: SGLANG_PLUGINS let the other model class in.
        RuntimeError: no CUDA graph for a batch size, or values that are not finite.
    """
    engine = build_engine(spec)
    say(spec, "first prefill, which compiles what is not cached")
    experts_hit = route(engine, spec)
    phases = {f"prefill {spec.chunk}": time_prefill(engine, spec)}
    for batch in spec.batches:
        say(spec, f"decode, batch {batch}")
        phases[decode_phase(batch)] = time_decode(engine, spec, batch)
    say(spec, "done")
    return ShardResult(
        model_class=engine.model_class,
        environment=current_environment(),
        weight_gb=sum(param.nbytes for param in engine.runner.model.parameters()) / 1e9,
        experts_hit=experts_hit,
        phases=phases,
    )


def build_engine(spec: ShardSpec) -> ShardEngine:
    """Load the plugins as a server's processes do, then the model, and capture its CUDA graphs."""
    from sglang.srt.plugins import load_plugins

    load_plugins()  # before the engine's modules are imported: they bind what plugins replace
    from sglang_glm52.bench.shard_engine import ShardEngine

    say(spec, "loading and capturing CUDA graphs, which compiles what is not cached")
    engine = ShardEngine(spec.server_args(), PACKAGES[spec.which])
    require_graphs(engine.captured_batches(), spec.batches)
    say(spec, f"built {engine.model_class}")
    return engine


def route(engine: ShardEngine, spec: ShardSpec) -> dict[int, float]:
    """First prefill of a chunk: distinct experts a layer reads for each batch size."""
    with watch_routers(engine.runner.model, PUBLISHED["num_experts_per_tok"]) as watch:
        _, logits = engine.prefill(prompts(engine, spec, 1, spec.chunk))
    require_finite(logits, "prefill")
    return {batch: watch.experts_hit(batch) for batch in spec.batches}


def time_prefill(engine: ShardEngine, spec: ShardSpec) -> Phase:
    prompt = prompts(engine, spec, 1, spec.chunk)
    return time_phase(lambda: engine.prefill(prompt), PREFILL_STEPS, PREFILL_WARMUP, profiled_steps=1)


def time_decode(engine: BatchRunner, spec: ShardSpec, batch_size: int) -> Phase:
    """Decode steps from `spec.context` tokens on, with random tokens so that rows go on differing."""
    batch, logits = engine.prefill(prompts(engine, spec, batch_size, spec.context))
    require_finite(logits, f"prefill of batch {batch_size}")
    generator = torch.Generator(device=logits.device).manual_seed(spec.seed)
    shape = (MAX_NEW_TOKENS, batch_size)
    tokens = iter(torch.randint(engine.vocab_size, shape, device=logits.device, generator=generator))
    last = []

    def step() -> None:
        last[:] = [engine.decode(batch, next(tokens))]

    phase = time_phase(step, DECODE_STEPS, DECODE_WARMUP, profiled_steps=PROFILED_DECODE_STEPS)
    require_finite(last[0], f"decode of batch {batch_size}")
    return phase


def time_phase(
    step: Callable[[], object],
    steps: int,
    warmup: int,
    *,
    profiled_steps: int,
    stream: torch.cuda.Stream | None = None,
) -> Phase:
    wall_ms = step_intervals_ms(step, steps=steps, warmup=warmup, stream=stream)
    profiles = [tabulate(profile(step, steps=profiled_steps), profiled_steps) for _ in range(PROFILES)]
    return Phase.of(wall_ms, profiles)


def prompts(engine: BatchRunner | RoundEngine, spec: ShardSpec, count: int, length: int) -> list[array]:
    """`count` random prompts of `length` tokens, the same for both model classes."""
    generator = torch.Generator().manual_seed(spec.seed)
    ids = torch.randint(engine.vocab_size, (count, length), generator=generator)
    return [array("q", row.tolist()) for row in ids]


def say(spec: ShardSpec, text: str) -> None:
    print(f"[{spec.which} {time.monotonic() - _STARTED:5.0f} s] {text}", file=sys.stderr, flush=True)


def require_graphs(captured: Sequence[int], batches: Sequence[int]) -> None:
    missing = sorted(set(batches) - set(captured))
    if missing:
        raise RuntimeError(f"no CUDA graph for batch {missing}, captured: {captured}")


def require_finite(logits: torch.Tensor, where: str) -> None:
    if not logits.isfinite().all():
        raise RuntimeError(f"{where}: {int((~logits.isfinite()).sum())} of {logits.numel()} logits are not finite")


if __name__ == "__main__":
    sys.exit(main())

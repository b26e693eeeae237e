"""Measures one model class over the whole window, in a process of its own that `glm52 bench window` starts.

The engine is SGLang's own, with its scheduler in a process beside this one. Every phase's result is written before the
next begins, so that a run cut short keeps what it has, and a later one measures the rest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang_glm52.bench.record import Environment, cpu_environment, current_environment
from sglang_glm52.bench.shard_spec import PACKAGES, PAGE
from sglang_glm52.bench.window_file import PhaseResult
from sglang_glm52.bench.window_memory import START, MemorySampler, device_memory
from sglang_glm52.bench.window_plan import planned
from sglang_glm52.bench.window_profile import NEW_TOKENS, STEPS, parts, trace_request
from sglang_glm52.bench.window_requests import Timing, random_prompt, time_requests
from sglang_glm52.bench.window_scheduler import run_scheduler
from sglang_glm52.bench.window_spec import (
    CROWD,
    CROWD_NEW,
    CROWD_PROMPT,
    FIRST,
    SECOND,
    Device,
    WindowSpec,
    all_phases,
    profile_phase,
)

if TYPE_CHECKING:
    from sglang.srt.entrypoints.engine import Engine

WARM_UP_NEW = 8


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=WindowSpec.from_json, required=True)
    parser.add_argument("--phases", required=True, help="names, separated by commas")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--memory", type=Path, required=True)
    args = parser.parse_args(argv)
    spec: WindowSpec = args.spec
    with (
        device_memory(spec.device) as read_used,
        MemorySampler(args.memory, spec.which, read_used, spec.sample_seconds) as sampler,
    ):
        measure(spec, args.phases.split(","), sampler, args.out)
    return 0


def measure(spec: WindowSpec, phases: Sequence[str], sampler: MemorySampler, out: Path) -> None:
    """Start an engine and measure `phases`, in the order of `all_phases`."""
    keep = partial(append_result, spec, environment(spec.device), sampler, out)
    say(spec, "loading and capturing CUDA graphs")
    began = time.monotonic()
    with sampler.during(START):
        engine = make_engine(spec)
    try:
        window = Window(spec, engine)
        with sampler.during(START):
            started_s = time.monotonic() - began
            window.warm_up()
        ready_s = time.monotonic() - began
        times = {"start_s": started_s, "ready_s": ready_s}
        keep(START, {"tokens_that_fit": window.num_slots} | _planned(spec) | times)
        for phase in all_phases(spec):
            if phase in phases:
                say(spec, phase)
                with sampler.during(phase):
                    values = window.measure(phase)
                keep(phase, values)
    finally:
        engine.shutdown()


def append_result(
    spec: WindowSpec, where: Environment, sampler: MemorySampler, out: Path, phase: str, values: dict[str, Any]
) -> None:
    """Write what one phase measured, and the most memory that was seen in it."""
    values = values | {"peak_bytes": sampler.peaks[phase]}
    PhaseResult(which=spec.which, phase=phase, settings=spec.settings(), environment=where, values=values).append_to(
        out
    )
    say(spec, f"{phase}: {values}")


class Window:
    """A started engine and what was sent to it."""

    def __init__(self, spec: WindowSpec, engine: Engine) -> None:
        self.spec, self.engine = spec, engine
        self.num_slots: int = engine.get_server_info()["max_total_num_tokens"]
        self.vocab_size: int = engine.tokenizer_manager.model_config.vocab_size
        self.tokens_sent = 0  # since the start
        self.prompt_of: dict[int, str] = {}  # length -> the name of the last timed prompt of that length

    def warm_up(self) -> None:
        """Whole chunks, a short one and decode steps, which compile what is not cached."""
        self._send(min(2 * self.spec.chunk + 1, self.spec.prompt), WARM_UP_NEW, "warm-up")

    def measure(self, phase: str) -> dict[str, Any]:
        """What a phase of `all_phases` measures."""
        if phase in (FIRST, SECOND):
            return self._time_one(phase, self.spec.prompt)
        if phase == CROWD:
            return self._time_crowd()
        num_tokens = int(phase.split()[1])
        return self._profile(num_tokens) if phase == profile_phase(num_tokens) else self._time_one(phase, num_tokens)

    def _time_one(self, phase: str, num_tokens: int) -> dict[str, Any]:
        if phase == SECOND:
            self._fill_cache()
        [timing], _ = self._send(num_tokens, self.spec.decode, phase)
        if timing.cached_tokens:
            raise RuntimeError(f"{phase}: {timing.cached_tokens} tokens of a new random prompt were in the cache")
        self.prompt_of[num_tokens] = phase
        return asdict(timing) | {
            "prefill_tokens_per_s": num_tokens / timing.first_token_s,
            "evicted_tokens": max(0, self.tokens_sent - self.num_slots),  # since the start, at least
        }

    def _profile(self, num_tokens: int) -> dict[str, Any]:
        """The last chunk of a prompt of that length and steps behind it; what comes before is in the cache."""
        name = self.prompt_of.get(num_tokens, f"before the profile of {num_tokens}")
        self._send(num_tokens, 1, name)  # finds in the cache what is still there
        pages = -(-max(0, num_tokens - self.spec.chunk) // PAGE)
        cached = self._prompt(num_tokens, f"{name} 0")[: pages * PAGE]
        last = self._prompt(num_tokens - len(cached), f"{name} profile")
        timings: list[Timing] = []

        def send() -> None:
            timings.extend(time_requests(self.engine, [cached + last], NEW_TOKENS)[0])

        is_cuda = self.spec.device == "cuda"
        prefill, decode = trace_request(self.engine, "GPU" if is_cuda else "CPU", send)
        if timings[0].cached_tokens != len(cached):
            raise RuntimeError(f"{name}: {timings[0].cached_tokens} of {len(cached)} tokens were still in the cache")
        kernels = {"chunk_parts_ms": parts(prefill, 1), "step_parts_ms": parts(decode, STEPS)} if is_cuda else {}
        return {"last_chunk": len(last)} | kernels

    def _fill_cache(self) -> None:
        """Leave less of the KV pool unused than the next long prompt takes, by prompts of middle length."""
        size = max((n for n in self.spec.contexts if n < self.spec.prompt), default=self.spec.prompt)
        too_many = self.num_slots - self.tokens_sent - self.spec.prompt
        for i in range(max(0, -(-too_many // size))):
            self._send(size, 1, f"fill {i}")

    def _time_crowd(self) -> dict[str, Any]:
        length = min(CROWD_PROMPT, self.spec.prompt)
        timings, all_s = self._send(length, CROWD_NEW, CROWD, count=self.spec.crowd)
        first_token_s = [timing.first_token_s for timing in timings]
        return {
            "requests": len(timings),
            "prompt_tokens": length,
            "new_tokens": CROWD_NEW,
            "all_s": all_s,
            "first_token_s": statistics.median(first_token_s),
            "last_first_token_s": max(first_token_s),
            "new_tokens_per_s": len(timings) * CROWD_NEW / all_s,
        }

    def _send(self, num_tokens: int, new_tokens: int, name: str, count: int = 1) -> tuple[list[Timing], float]:
        prompts = [self._prompt(num_tokens, f"{name} {i}") for i in range(count)]
        self.tokens_sent += count * (num_tokens + new_tokens)
        return time_requests(self.engine, prompts, new_tokens)

    def _prompt(self, num_tokens: int, name: str) -> list[int]:
        return random_prompt(num_tokens, self.vocab_size, f"{self.spec.seed} {name}")


def _planned(spec: WindowSpec) -> dict[str, int]:
    """Beside a pool that is sized by the GPU's memory."""
    if spec.device == "cpu" or spec.max_total_tokens is not None:
        return {}
    import torch

    return planned(spec, torch.cuda.get_device_properties(0).total_memory)


def say(spec: WindowSpec, text: str) -> None:
    print(f"[{spec.which}] {text}", file=sys.stderr, flush=True)


def make_engine(spec: WindowSpec) -> Engine:
    """SGLang's engine, whose scheduler checks that it serves the class asked for."""
    from sglang.srt.entrypoints.engine import Engine

    class CheckedEngine(Engine):
        run_scheduler_process_func = staticmethod(partial(run_scheduler, PACKAGES[spec.which], spec.is_seeded))

    return CheckedEngine(**spec.engine_args())


def environment(device: Device) -> Environment:
    return current_environment() if device == "cuda" else cpu_environment()


if __name__ == "__main__":
    sys.exit(main())

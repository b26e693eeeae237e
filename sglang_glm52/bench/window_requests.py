"""Requests on a running engine, timed by the arrival of their tokens."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sglang.srt.entrypoints.engine import Engine

FIRST_STEPS = 4  # after a prefill, whose intervals hold what the scheduler still had to do for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One request."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt, found in the radix cache
    new_tokens: int
    first_token_s: float  # from sending to the first token
    step_ms: float | None  # median time between tokens; None with too few of them


def random_prompt(num_tokens: int, vocab_size: int, seed: str) -> list[int]:
    """Token ids, the same for the same seed on any machine."""
    rng = random.Random(seed)
    return [rng.randrange(vocab_size) for _ in range(num_tokens)]


def time_requests(engine: Engine, prompts: Sequence[list[int]], new_tokens: int) -> tuple[list[Timing], float]:
    """Send all prompts together; each one's timing, and the seconds until the last token of all."""
    sampling = {"temperature": 0.0, "max_new_tokens": new_tokens, "ignore_eos": True}
    arrivals: list[list[tuple[float, int]]] = [[] for _ in prompts]  # of each: (time, tokens so far)
    meta: list[dict[str, Any]] = [{} for _ in prompts]
    began = time.perf_counter()
    for chunk in engine.generate(input_ids=list(prompts), sampling_params=sampling, stream=True):
        place = chunk["index"]
        meta[place] = chunk["meta_info"]
        arrivals[place].append((time.perf_counter() - began, meta[place]["completion_tokens"]))
    elapsed = time.perf_counter() - began
    return [_timing(len(p), a, m, new_tokens) for p, a, m in zip(prompts, arrivals, meta, strict=True)], elapsed


def _timing(prompt_tokens: int, arrivals: list[tuple[float, int]], meta: dict[str, Any], new_tokens: int) -> Timing:
    got = arrivals[-1][1] if arrivals else 0
    if got != new_tokens:
        raise RuntimeError(f"a prompt of {prompt_tokens} tokens got {got} of {new_tokens}: {meta.get('finish_reason')}")
    return Timing(
        prompt_tokens=prompt_tokens,
        cached_tokens=meta["cached_tokens"],
        new_tokens=got,
        first_token_s=arrivals[0][0],
        step_ms=_median_step_ms(arrivals[FIRST_STEPS:]),
    )


def _median_step_ms(arrivals: Sequence[tuple[float, int]]) -> float | None:
    """Each message's interval over the tokens it brought; the engine may send several together."""
    steps = [
        (time_b - time_a) / (count_b - count_a)
        for (time_a, count_a), (time_b, count_b) in pairwise(arrivals)
        if count_b > count_a
    ]
    return statistics.median(steps) * 1e3 if steps else None

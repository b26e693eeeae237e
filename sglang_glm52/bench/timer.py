"""The only module that times. Its functions expect work that is already compiled and keep the GPU's queue full."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch


def step_intervals_ms(
    step: Callable[[], object], *, steps: int, warmup: int, stream: torch.cuda.Stream | None = None
) -> list[float]:
    """Milliseconds from the end of one step's device work to the end of the next's, for `steps` steps.

    Nothing waits for the device in between, so host work that hides behind the previous step costs nothing, as in a
    server that prepares the next batch while one runs. `stream` is where the steps' device work ends, if it is not the
    current stream.
    """
    for _ in range(warmup):
        step()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    marks[0].record(stream)
    for mark in marks[1:]:
        step()
        mark.record(stream)
    torch.cuda.synchronize()
    return [earlier.elapsed_time(later) for earlier, later in pairwise(marks)]


def graph_intervals_ms(launch: Callable[[], object], *, steps: int, warmup: int) -> list[float]:
    """`step_intervals_ms` of the replays of a CUDA graph that holds what `launch` launches."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return step_intervals_ms(graph.replay, steps=steps, warmup=warmup)


def profile(step: Callable[[], object], *, steps: int) -> dict[str, Any]:
    """Chrome trace of the device work of `steps` steps; kernels inside CUDA graphs are listed one by one."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text(errors="replace"), strict=False)

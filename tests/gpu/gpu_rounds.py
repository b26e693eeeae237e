"""Launches rounds of speculation while the GPU is held up, and prints how far the CPU got; a process of its own.

`python gpu_rounds.py MODEL_DIR`
"""

from __future__ import annotations

import json
import sys
from array import array

import torch
from sglang.srt.plugins import load_plugins

from sglang_glm52.bench.speculation import Speculation

SETTINGS = ("3-1-4", "1-1-2")
FLAGS = (
    *("--load-format", "dummy", "--kv-cache-dtype", "fp8_e4m3", "--random-seed", "1", "--cuda-graph-bs", "1", "4"),
    *("--chunked-prefill-size", "1024", "--max-total-tokens", "8192", "--max-running-requests", "4"),
    *("--context-length", "4096", "--skip-tokenizer-init", "--disable-radix-cache", "--log-level", "error"),
    "--disable-piecewise-cuda-graph",
)
HELD_CYCLES = 1_000_000_000  # half a second; two rounds are launched in some ten milliseconds


def launched_ahead(engine, num_requests: int) -> int:
    """How many of two rounds are launched, both results still to come, before the GPU begins the first."""
    prompts = [array("q", range(10 + request, 310 + request)) for request in range(num_requests)]
    engine.start(prompts, max_new_tokens=200)
    for _ in range(4):
        engine.step()
    torch.cuda.synchronize()
    held, ahead = torch.cuda.Event(), []
    process = engine.scheduler.process_batch_result

    def look_and_process(*args) -> None:
        ahead.append(not held.query())
        process(*args)

    engine.scheduler.process_batch_result = look_and_process
    with torch.cuda.stream(engine.stream):
        torch.cuda._sleep(HELD_CYCLES)
        held.record()
    engine.step()
    engine.step()
    engine.scheduler.process_batch_result = process
    engine.stop()
    return sum(ahead)


def main(model_dir: str) -> None:
    load_plugins()
    from sglang_glm52.bench.round_engine import RoundEngine

    flags = [word for flag, values in Speculation.from_text(SETTINGS[0]).flags().items() for word in (flag, *values)]
    engine = RoundEngine(["--model-path", model_dir, *FLAGS, *flags], "sglang_glm52.models")
    found = {}
    for setting in SETTINGS:
        engine.configure(Speculation.from_text(setting))
        found[setting] = {
            "ahead": [launched_ahead(engine, num_requests) for num_requests in (1, 3)],
            "extend_graphs": sorted(engine.worker.draft_worker.cuda_graph_runner_for_draft_extend.graphs),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

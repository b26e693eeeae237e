"""Run prompts through a real SGLang engine in a process of its own and get log-probabilities back.

    runs = run_engine(checkpoint, [Job(prompts)], device="cpu", dtype="float32")

A process of its own, because SGLang picks its engine (CPU or CUDA) when it is imported, and keeps its settings in
globals.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sglang_glm52.testing.server import CPU_ENVIRON, free_port


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `Engine.generate`: prompts that the scheduler sees together."""

    prompts: Sequence[Sequence[int]]  # token ids
    max_new_tokens: int = 1
    score_from: int = 0  # first prompt position whose log-probabilities come back; -1 for none
    vocab_size: int = 0  # 0: only the chosen tokens' log-probabilities
    sampling: Mapping[str, Any] = field(default_factory=dict)  # sampling parameters; greedy where none are given
    abort_seconds: Mapping[int, float] = field(default_factory=dict)  # place of a prompt -> when it is given up


@dataclass(frozen=True, slots=True)
class Run:
    """What came back for one prompt."""

    output_ids: list[int]
    cached_tokens: int
    retractions: int  # how often the scheduler threw it out of a full KV pool
    draft_rounds: int  # of speculation
    correct_drafts: int  # draft tokens kept, over all rounds
    is_aborted: bool
    chosen: np.ndarray  # [num_new] float32, log-probability of each generated token
    prompt_logprobs: np.ndarray  # [scored positions, vocab]: row i is what follows position score_from + i
    output_logprobs: np.ndarray  # [num_new, vocab]


class EngineError(RuntimeError):
    """The engine's process failed; the message ends with its output."""


def run_engine(
    checkpoint: Path,
    jobs: Sequence[Job],
    *,
    device: str,
    environ: Mapping[str, str] | None = None,
    timeout_seconds: float = 600,
    **engine_args: Any,
) -> list[list[Run]]:
    """Start an engine with `engine_args` (fields of SGLang's ServerArgs), run `jobs` one after the other, stop it.

    `environ` is added to this process's.
    """
    spec = {
        "engine": {"model_path": str(checkpoint), "device": device, "port": free_port(), **engine_args},
        "jobs": [asdict(j) for j in jobs],
    }
    merged = {**os.environ, **(CPU_ENVIRON if device == "cpu" else {}), **(environ or {})}
    with tempfile.TemporaryDirectory() as folder:
        spec_file, out_file = Path(folder) / "spec.json", Path(folder) / "out.npz"
        spec_file.write_text(json.dumps(spec))
        command = [sys.executable, "-m", "sglang_glm52.testing.engine_worker", str(spec_file), str(out_file)]
        done = subprocess.run(command, env=merged, capture_output=True, text=True, timeout=timeout_seconds)
        if done.returncode or not out_file.exists():
            raise EngineError(f"engine ended with {done.returncode}:\n{(done.stdout + done.stderr)[-6000:]}")
        return _read(out_file, jobs)


def _read(file: Path, jobs: Sequence[Job]) -> list[list[Run]]:
    with np.load(file) as arrays:
        return [[_run(arrays, f"{j}.{p}") for p in range(len(job.prompts))] for j, job in enumerate(jobs)]


def _run(arrays: Any, key: str) -> Run:
    return Run(
        output_ids=arrays[f"{key}.ids"].tolist(),
        cached_tokens=int(arrays[f"{key}.cached"]),
        retractions=int(arrays[f"{key}.retractions"]),
        draft_rounds=int(arrays[f"{key}.draft_rounds"]),
        correct_drafts=int(arrays[f"{key}.correct_drafts"]),
        is_aborted=bool(arrays[f"{key}.is_aborted"]),
        chosen=arrays[f"{key}.chosen"],
        prompt_logprobs=arrays[f"{key}.prompt"],
        output_logprobs=arrays[f"{key}.output"],
    )

"""Where the time of a chunk and of a decode step at the end of a long context goes, by SGLang's own profiler.

The prompt is one that the radix cache has but for its last chunk, so that one chunk is computed, however long it is.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from sglang_glm52.bench.kernel_groups import group_of
from sglang_glm52.bench.kernel_table import merge, tabulate

if TYPE_CHECKING:
    from sglang.srt.entrypoints.engine import Engine

STEPS = 5  # decode steps of a profile
NEW_TOKENS = STEPS + 3  # the first one is the prefill's, and the profiler stops before a step more

Activity = Literal["CPU", "GPU"]


def trace_request(engine: Engine, activity: Activity, send: Callable[[], None]) -> tuple[dict[str, Any], ...]:
    """Chrome traces of the prefill and of STEPS decode steps of what `send` sends: one request, of NEW_TOKENS.

    Raises:
        RuntimeError: SGLang kept no trace of either, as after too few decode steps.
    """
    with TemporaryDirectory(prefix="glm52-profile-") as folder:
        engine.start_profile(
            output_dir=folder, num_steps=STEPS, activities=[activity], with_stack=False, profile_by_stage=True
        )
        send()
        return _read(folder, "EXTEND"), _read(folder, "DECODE")


def parts(trace: dict[str, Any], steps: int) -> dict[str, float]:
    """Milliseconds of kernels by part of the model, in one of `steps` equal steps."""
    return {name: round(row.ms, 4) for name, row in merge(tabulate(trace, steps), group_of).items()}


def _read(folder: str, stage: str) -> dict[str, Any]:
    found = list(Path(folder).glob(f"*-{stage}.trace.json.gz"))
    if len(found) != 1:
        raise RuntimeError(f"SGLang's profiler left {len(found)} traces of stage {stage}, expected one")
    with gzip.open(found[0], "rt") as file:
        return json.load(file)

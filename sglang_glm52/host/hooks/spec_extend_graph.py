"""Run draft-extend passes in a CUDA graph.

The host assumes that only some attention backends can run these passes in a CUDA graph; sparse attention is not among
them, so it launches the draft model's kernels one by one, round after round. With GLM-5.2, unless
SGLANG_GLM52_SPEC_ROUNDS=host, and the backend that `spec_extend_backend` puts there, they are captured like the passes
of the other backends. Read in 0.5.13.post1 (`speculative/eagle_worker_v2.py`, `EagleDraftWorker.init_cuda_graphs`).
Without the hook a round takes milliseconds of the CPU for a pass of well under one on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.speculative.ahead import runs_ahead


def capture_extend(original: Callable[[Any], None], self: Any) -> None:
    """AROUND `EagleDraftWorker.init_cuda_graphs`."""
    original(self)
    if self.server_args.disable_cuda_graph or not runs_ahead(self.server_args):
        return
    from sglang_glm52.attention.round_backend import RoundBackend
    from sglang_glm52.speculative.extend_graph import ExtendGraphRunner

    if isinstance(self.draft_extend_attn_backend, RoundBackend):
        self.cuda_graph_runner_for_draft_extend = ExtendGraphRunner(self)

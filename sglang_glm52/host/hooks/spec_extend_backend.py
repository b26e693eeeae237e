"""Attention for draft-extend passes that is planned on the device.

The host assumes that draft-extend with sparse attention runs without a CUDA graph; in one, its backend would take the
number of accepted tokens for the number of rows. Unless SGLANG_GLM52_SPEC_ROUNDS=host, GLM-5.2 gets the backend
of `attention/round_backend.py`. Read in 0.5.13.post1 (`speculative/draft_utils.py`,
`DraftBackendFactory._create_dsa_prefill_backend`). Without the hook `spec_extend_graph` has nothing to capture with,
and the CPU waits for lengths in every round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.speculative.ahead import runs_ahead


def create_extend_backend(original: Callable[[Any], Any], self: Any) -> Any:
    """AROUND `DraftBackendFactory._create_dsa_prefill_backend`."""
    runner = self.draft_model_runner
    if not runs_ahead(runner.server_args):
        return original(self)
    from sglang_glm52.attention.round_backend import RoundBackend

    return RoundBackend(runner, skip_prefill=False)

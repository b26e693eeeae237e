"""Attention for draft steps that is planned once a round, on the device.

The host assumes that planning is cheap beside the steps: it plans from lengths that the CPU waits for, by operations
launched one by one, and then copies the plan for each step. Unless SGLANG_GLM52_SPEC_ROUNDS=host, GLM-5.2 gets
the backends of `attention/round_steps.py`. Read in 0.5.13.post1 (`speculative/draft_utils.py`,
`DraftBackendFactory._create_dsa_decode_backend`). Without the hook the CPU cannot prepare a round before the one before
it is verified, and the GPU waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.speculative.ahead import runs_ahead


def create_round_steps(original: Callable[[Any], Any], self: Any) -> Any:
    """AROUND `DraftBackendFactory._create_dsa_decode_backend`."""
    runner = self.draft_model_runner
    if not runs_ahead(runner.server_args):
        return original(self)
    from sglang_glm52.attention.round_steps import RoundSteps

    return RoundSteps(runner, self.topk, self.speculative_num_steps)

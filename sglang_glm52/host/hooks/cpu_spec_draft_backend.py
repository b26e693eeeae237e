"""Attention for the steps of a draft round on the CPU engine.

The host assumes that only its accelerators draft: its table of backends for draft steps has no entry for the CPU
engine's. The method that looks there is wrapped and answers for GLM-5.2; other models get the host's answer, an error.
Read in 0.5.13.post1 (`speculative/draft_utils.py`, `DraftBackendFactory.create_decode_backend`). Without the hook a
server with speculation fails at start: "EAGLE is not supported in decode attention backend torch_native".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.arch import is_glm52


def create_draft_steps(original: Callable[[Any], Any], self: Any) -> Any:
    """AROUND `DraftBackendFactory.create_decode_backend`; None where a round has one step, which needs no attention."""
    runner = self.draft_model_runner
    if self.speculative_num_steps == 1 or not is_glm52(runner.model_config.hf_config):
        return original(self)
    from sglang_glm52.attention.draft_steps import DraftSteps

    return DraftSteps(runner, self.speculative_num_steps, shares_selection=runner.model.shares_selection)

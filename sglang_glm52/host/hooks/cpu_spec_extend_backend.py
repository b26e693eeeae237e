"""Attention for draft-extend passes on the CPU engine.

The host assumes that only its accelerators draft: its table of backends for draft-extend has no entry for the CPU
engine's. The method that looks there is wrapped and answers for GLM-5.2 with the draft runner's own backend, which runs
these passes where there are no CUDA graphs; other models get the host's answer, an error. Read in 0.5.13.post1
(`speculative/draft_utils.py`, `DraftBackendFactory.create_draft_extend_backend`). Without the hook a server with
speculation fails at start: "EAGLE is not supported in attention backend torch_native".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.arch import is_glm52


def use_runners_backend(original: Callable[[Any], Any], self: Any) -> Any:
    """AROUND `DraftBackendFactory.create_draft_extend_backend`."""
    runner = self.draft_model_runner
    return runner.attn_backend if is_glm52(runner.model_config.hf_config) else original(self)

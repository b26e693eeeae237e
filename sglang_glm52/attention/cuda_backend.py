"""Which attention backend the name `dsa` means: ours for rounds that are prepared ahead, else the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang_glm52.speculative.ahead import runs_ahead

if TYPE_CHECKING:
    from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
    from sglang.srt.model_executor.model_runner import ModelRunner


def create_sparse_backend(model_runner: ModelRunner) -> AttentionBackend:
    """Factory for the host's `ATTENTION_BACKENDS` table."""
    from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnBackend  # only servers of such models have it

    if model_runner.spec_algorithm.is_none() or not runs_ahead(model_runner.server_args):
        return DeepseekSparseAttnBackend(model_runner)
    from sglang_glm52.attention.round_backend import RoundBackend

    return RoundBackend(model_runner)

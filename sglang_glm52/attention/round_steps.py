"""The host's sparse attention for the steps of a draft round, in a CUDA graph planned once for all of them.

Every step of a round attends to the same keys, those before the round (`models/index_share.py`), so all have one plan.
The host keeps one for each step, each with a table of `max_context_len` slots for every row of the largest batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnMultiStepBackend
from sglang.srt.model_executor.forward_batch_info import ForwardMode, build_inner_fb_view

from sglang_glm52.attention.round_backend import RoundBackend

if TYPE_CHECKING:
    from sglang.srt.model_executor.forward_batch_info import ForwardBatch
    from sglang.srt.model_executor.model_runner import ModelRunner


class RoundSteps(DeepseekSparseAttnMultiStepBackend):
    """The backends of a round of `num_steps`: the last step only takes the token that the one before it made."""

    def __init__(self, model_runner: ModelRunner, topk: int, num_steps: int) -> None:
        self.topk, self.speculative_num_steps = topk, num_steps
        self.attn_backends = [
            RoundBackend(model_runner, speculative_step_id=step_id, topk=topk, speculative_num_steps=num_steps)
            for step_id in range(num_steps - 1)
        ]
        self.needs_cpu_seq_lens = self.attn_backends[0].needs_cpu_seq_lens

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        self.attn_backends[0].init_cuda_graph_state(max_bs, max_num_tokens)

    def init_forward_metadata_out_graph(self, forward_batch: ForwardBatch, in_capture: bool = False) -> None:
        """As `RoundBackend`'s, for all steps."""
        first, *others = self.attn_backends
        view = build_inner_fb_view(forward_batch, bs=forward_batch.batch_size, forward_mode=ForwardMode.DECODE)
        first.init_forward_metadata_out_graph(view, in_capture)
        for backend in others:
            backend.forward_metadata = first.forward_metadata

    def init_forward_metadata_in_graph(self, forward_batch: ForwardBatch) -> None:
        self.attn_backends[0].init_forward_metadata_in_graph(forward_batch)

"""The draft-extend pass of GLM-5.2 in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from sglang.srt.speculative.eagle_draft_extend_cuda_graph_runner import EAGLEDraftExtendCudaGraphRunner

if TYPE_CHECKING:
    from sglang.srt.layers.logits_processor import LogitsProcessorOutput
    from sglang.srt.model_executor.forward_batch_info import ForwardBatch


class ExtendGraphRunner(EAGLEDraftExtendCudaGraphRunner):
    """The host's runner for a backend that plans in the graph, and a model that shares its selections.

    The host's records the model's pass alone. A replay runs no Python, so the selection that the model would have left
    to its `DraftSelections` is left there after it, as the tensor that the graph writes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.selected: dict[int, torch.Tensor] = {}  # by batch size
        super().__init__(*args, **kwargs)

    def capture_one_batch_size(self, bs: int, forward: Callable[..., Any], stream_idx: int = 0) -> tuple[Any, Any]:
        self.capturing = bs
        captured = super().capture_one_batch_size(bs, forward, stream_idx)
        if self.model_runner.model.selections is not None:
            self.selected[bs] = self.model_runner.model.selections.extended
        return captured

    def _capture_init(self, run_once_fn: Callable[[], Any]) -> None:
        super()._capture_init(self._planned(run_once_fn))

    def _capture_graph(self, graph: Any, pool: Any, stream: Any, run_once_fn: Callable[[], Any]) -> Any:
        return super()._capture_graph(graph, pool, stream, self._planned(run_once_fn))

    def _planned(self, run_once: Callable[[], Any]) -> Callable[[], Any]:
        """`run_once` after the plan of the batch size that is being captured."""
        batch = SimpleNamespace(
            forward_mode=self.forward_mode,
            batch_size=self.capturing,
            req_pool_indices=self.buffers.req_pool_indices[: self.capturing],
            seq_lens=self.buffers.seq_lens[: self.capturing],
        )

        def plan_and_run() -> Any:
            self.draft_extend_attn_backend.init_forward_metadata_in_graph(batch)
            return run_once()

        return plan_and_run

    def replay(self, forward_batch: ForwardBatch) -> LogitsProcessorOutput:
        output = super().replay(forward_batch)
        if self.model_runner.model.selections is not None:
            self.model_runner.model.selections.extend(self.selected[self.bs])
        return output

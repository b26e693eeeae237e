"""The attention of a draft round on the CPU engine: one backend a step, planned together before the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang_glm52.attention.torch_sparse import TorchSparseAttnBackend

if TYPE_CHECKING:
    from sglang.srt.model_executor.forward_batch_info import ForwardBatch
    from sglang.srt.model_executor.model_runner import ModelRunner


class DraftStepAttnBackend(TorchSparseAttnBackend):
    """Step `speculative_step_id` of a round: one row a request, that many positions after its committed tokens.

    A step that selects for itself sees those, the round's earlier drafts and its own token. With a shared selection
    every step attends as the last committed token did: drafts of the round are not among what that could select, and
    where a request has too few tokens to select from, they are left out as well.
    """

    def __init__(self, model_runner: ModelRunner, step_id: int, shares_selection: bool) -> None:
        super().__init__(model_runner)
        self.speculative_step_id = step_id
        self.num_visible_drafts = 0 if shares_selection else step_id + 1

    def extents(self, forward_batch: ForwardBatch) -> tuple[list[int], list[int]]:
        lengths = forward_batch.seq_lens_cpu.tolist()
        return [length + self.num_visible_drafts for length in lengths], [1] * len(lengths)


class DraftSteps:
    """The backends of a round of `num_steps`: the last step only takes the token that the one before it made."""

    def __init__(self, model_runner: ModelRunner, num_steps: int, *, shares_selection: bool) -> None:
        self.attn_backends = [
            DraftStepAttnBackend(model_runner, step_id, shares_selection) for step_id in range(num_steps - 1)
        ]

    def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
        """Plan every step."""
        for backend in self.attn_backends:
            backend.init_forward_metadata(forward_batch)

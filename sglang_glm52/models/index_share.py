"""IndexShare within a draft round: what the last accepted token selected serves the round's later steps.

A draft round predicts token L + 1 by the draft model's row L - 1, the last accepted one, and each further token by a
step of its own. With `index_share_for_mtp_iteration` the steps do not select positions themselves: they attend to those
that row L - 1 selected, all before L. That row is computed at the end of the round before, in a batch with rejected
tokens, so its selection is kept by request-pool row until the round begins. What is kept is used only if it was made at
the length that the request has now; else the first step's own selection serves the round.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

NONE = -1  # length of a pool row without a selection


class KeptSelections:
    """One selection for each row of the request pool. Static storage, so that a CUDA graph can read it.

    On CUDA a selection is slots of the KV cache. Those of a prompt that another request computed at the same time are
    freed while its first round runs, and may hold another request's keys by the second, whose drafts are worse then.
    """

    def __init__(self, num_pool_rows: int, like: torch.Tensor) -> None:
        """`like`: a selection [num_tokens, index_topk] as the attention backend encodes it."""
        self.selections = like.new_full((num_pool_rows, like.shape[1]), NONE)
        self.lengths = torch.full((num_pool_rows,), NONE, dtype=torch.int64, device=like.device)

    def keep(self, pool_rows: torch.Tensor, selections: torch.Tensor, lengths: torch.Tensor) -> None:
        """Remember [num_requests, index_topk], made when the requests had `lengths` [num_requests] tokens."""
        self.selections[pool_rows] = selections
        self.lengths[pool_rows] = lengths.to(torch.int64)

    def forget(self, pool_rows: torch.Tensor) -> None:
        self.lengths[pool_rows] = NONE

    def instead_of(self, own: torch.Tensor, pool_rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The kept selections of `pool_rows`, and `own` in rows whose kept one is of another length than `lengths`."""
        is_valid = self.lengths[pool_rows] == lengths
        return torch.where(is_valid.unsqueeze(1), self.selections[pool_rows], own)


class DraftSelections:
    """What a draft model's attention asks for its selection, in the order of its forward passes.

    Draft-extend passes select for themselves. The worker then says which of those rows was accepted last (`keep`), or
    that none may be used (`forget`). Steps of a round read that.
    """

    def __init__(self) -> None:
        self.kept: KeptSelections | None = None
        self.extended: torch.Tensor | None = None  # [num_tokens, index_topk] of the last draft-extend
        self.of_round: torch.Tensor | None = None  # [num_requests, index_topk] that the steps of this round use

    def extend(self, selection: torch.Tensor) -> torch.Tensor:
        """A draft-extend's own selection."""
        self.extended = selection
        return selection

    def step(
        self,
        step_id: int,
        select: Callable[[], torch.Tensor],
        pool_rows: torch.Tensor,
        lengths: torch.Tensor,
        num_pool_rows: int,
    ) -> torch.Tensor:
        """The selection of draft step `step_id` of a round.

        Args:
            select: this step's own selection, [num_requests, index_topk]; called in the first step only.
            pool_rows, lengths: [num_requests], the committed lengths. Only the first step reads them.
        """
        if step_id == 0:
            own = select()
            self.of_round = self._kept(num_pool_rows, own).instead_of(own, pool_rows, lengths)
        assert self.of_round is not None, f"draft step {step_id} came before the first step of its round"
        return self.of_round

    def begin_extend(self) -> None:
        """A draft-extend pass follows; without a selection in it, there is none to keep."""
        self.extended = None

    def keep(self, pool_rows: torch.Tensor, rows: torch.Tensor, lengths: torch.Tensor, num_pool_rows: int) -> None:
        """Row `rows[r]` of the draft-extend was the last accepted of the request in `pool_rows[r]`."""
        extended, self.extended = self.extended, None
        if extended is None:
            self.forget(pool_rows)
        else:
            self._kept(num_pool_rows, extended).keep(pool_rows, extended[rows], lengths)

    def forget(self, pool_rows: torch.Tensor) -> None:
        """The next round of these requests selects for itself."""
        self.extended = None
        if self.kept is not None:
            self.kept.forget(pool_rows)

    def _kept(self, num_pool_rows: int, like: torch.Tensor) -> KeptSelections:
        if self.kept is None:
            self.kept = KeptSelections(num_pool_rows, like)
        return self.kept


def shares_selection(setting: str, of_checkpoint: bool) -> bool:
    """Whether draft steps share a selection, by SGLANG_GLM52_MTP_INDEX_SHARE and the checkpoint."""
    return {"auto": of_checkpoint, "on": True, "off": False}[setting]

"""What the hooks on the host's EAGLE draft worker ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sglang_glm52.arch import is_glm52

if TYPE_CHECKING:
    from sglang_glm52.models.index_share import DraftSelections


def round_selections(worker: Any) -> DraftSelections | None:
    """Where a GLM-5.2 draft worker keeps the selections that its rounds share; None if it is not, or shares none.

    A round of one step runs no pass that could use one.
    """
    runner = worker.draft_runner
    if not is_glm52(runner.model_config.hf_config) or worker.speculative_num_steps == 1:
        return None
    return runner.model.selections

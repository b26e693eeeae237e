"""Have a request's whole output at hand when its drafts are penalised.

The host assumes that a penalty may be a round late: with the overlap schedule a batch is launched before the tokens of
the one before it are entered in its requests. A penalised token would then be free for a round. The method that already
answers for requests with a grammar, which have the same need, is wrapped, and answers for penalised ones too: the
result waiting is processed first. Other models reach this on the CPU engine only with speculation, which fails there
without this plugin. Read in 0.5.13.post1 (`managers/scheduler.py`, `Scheduler.is_disable_overlap_for_batch`). Without
the hook penalties leave out the tokens of the last round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def wait_for_output(original: Callable[[Any, Any], bool], self: Any, batch: Any) -> bool:
    """AROUND `Scheduler.is_disable_overlap_for_batch`."""
    is_late = (
        batch
        and batch.is_spec_v2
        and batch.forward_mode.is_decode()
        and batch.sampling_info.penalizer_orchestrator.is_required
        and len(self.result_queue) > 0
    )
    return original(self, batch) or bool(is_late)

"""Capture no piecewise CUDA graphs in a server that speculates.

The host assumes that prefills run in them, captures them unless an option turns them off, and with EAGLE never runs
one: a target model's prefill must return hidden states of all its rows, which those graphs do not, and a draft model
has none. They take minutes of a start and, by the host's own estimate, 1.5 GiB; and because they are on, every round
waits for the lengths of the one before it. Where GLM-5.2 speculates, `disable_piecewise_cuda_graph` is therefore set,
unless --enforce-piecewise-cuda-graph is given. Read in 0.5.13.post1 (`server_args.py`,
`_handle_piecewise_cuda_graph`; `model_executor/piecewise_cuda_graph_runner.py`, `can_run`;
`managers/overlap_utils.py`, `decide_needs_cpu_seq_lens`). Without the hook such a server starts later, with fewer
tokens, and its rounds are slower.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sglang_glm52.arch import is_glm52

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs

logger = logging.getLogger(__name__)


def leave_out(original: Callable[..., None], self: ServerArgs) -> None:
    """AROUND `ServerArgs._handle_piecewise_cuda_graph`."""
    original(self)
    if self.disable_piecewise_cuda_graph or self.enforce_piecewise_cuda_graph or self.speculative_algorithm is None:
        return
    if is_glm52(self.get_model_config().hf_config):
        self.disable_piecewise_cuda_graph = True
        logger.info("No piecewise CUDA graphs: with speculation none would ever run")

"""Do not fetch the length of each request between rounds.

The host assumes that piecewise CUDA graphs, which are on unless an option turns them off, read lengths on the CPU, and
fetches them in every round if they are. Only prefills run in those graphs, and a prefill's lengths come from its
requests. With GLM-5.2, unless SGLANG_GLM52_SPEC_ROUNDS=host, the attention backends alone are asked. Read in
0.5.13.post1 (`managers/overlap_utils.py`, `decide_needs_cpu_seq_lens` and `FutureMap.resolve_seq_lens_cpu`;
`model_executor/piecewise_cuda_graph_runner.py`). Without the hook a server started without
--disable-piecewise-cuda-graph waits for each round to be verified before it prepares the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sglang_glm52.speculative.ahead import runs_ahead


def ask_backends(original: Callable[..., bool], server_args: Any, attn_backends: Sequence[Any]) -> bool:
    """AROUND `decide_needs_cpu_seq_lens`; a round of one step has no backend for its steps."""
    if server_args.enable_two_batch_overlap or not runs_ahead(server_args):
        return original(server_args, attn_backends)
    return any(backend.needs_cpu_seq_lens for backend in attn_backends if backend is not None)

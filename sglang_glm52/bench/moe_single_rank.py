"""The state that SGLang's MoE functions look up in a server's process, for one rank without a server."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path


@cache
def set_up_single_rank() -> None:
    """Default server arguments and parallel groups of size one, once a process. gloo: nothing is communicated."""
    from sglang.srt.distributed import init_distributed_environment, initialize_model_parallel
    from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler

    set_global_server_args_for_scheduler(ServerArgs(model_path="dummy"))
    meeting_point = Path(tempfile.mkdtemp(prefix="glm52-moe-")) / "store"
    init_distributed_environment(
        world_size=1, rank=0, local_rank=0, distributed_init_method=meeting_point.as_uri(), backend="gloo"
    )
    initialize_model_parallel()

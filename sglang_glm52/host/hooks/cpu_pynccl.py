"""Tensor parallelism on the CPU engine without NCCL.

The host assumes that the NCCL library is absent where there is no GPU, and takes its presence (the PyPI wheels of
torch bring it) as a sign that a communicator can be built. With more than one rank that raises "Expected a cuda
device, but got: cpu". The group's constructor is told not to build one; on CPU tensors the host never uses it
(`all_reduce` and the others go through gloo first). Read in 0.5.13.post1 (`distributed/parallel_state.py`,
`GroupCoordinator`). Without the hook `--tp 2 --device cpu` fails while it sets up its groups, for every model.
"""

from __future__ import annotations

from typing import Any


def without_pynccl(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """BEFORE `GroupCoordinator.__init__`: the same arguments with `use_pynccl=False`."""
    return args, {**kwargs, "use_pynccl": False}

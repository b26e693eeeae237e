"""What the benches of single kernels ask before they time anything."""

from __future__ import annotations

import torch

from sglang_glm52.errors import ConfigError


def check_timing(option: str, count: int) -> None:
    """ConfigError unless `count`, given with `option`, is 1 or more and there is a GPU."""
    if count < 1:
        raise ConfigError(f"{option} {count}: expected 1 or more")
    if not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU was found; the kernel is timed on one")

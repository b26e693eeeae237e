"""Let a GLM-5.2 server start on the CPU engine.

The host assumes a GPU for every sparse-attention model: its model-specific defaults ask CUDA for the device's
capability and pick CUDA attention backends by it. On the CPU engine that raises before anything is loaded. The call is
wrapped here, and not `torch.cuda`, because the same call also decides page size, KV dtype and backend, all of which
differ on the CPU. Read in 0.5.13.post1 (`server_args.py`, `_handle_model_specific_adjustments`). Without the hook,
`--device cpu` fails with torch's "not compiled with CUDA" or "no NVIDIA driver".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sglang_glm52.arch import is_glm52
from sglang_glm52.errors import ConfigError

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs

TORCH_BACKEND = "torch_native"  # the host avoids Triton by this name; attention/cpu_backend.py stands behind it
PAGE_SIZE = 64  # as on CUDA, so that paging and prefix-cache behaviour are the same


def use_cpu_defaults(original: Callable[[ServerArgs], None], self: ServerArgs) -> None:
    """AROUND `ServerArgs._handle_model_specific_adjustments`."""
    if self.device != "cpu" or not is_glm52(self.get_model_config().hf_config):
        return original(self)
    if self.kv_cache_dtype not in ("auto", "bfloat16", "bf16"):
        raise ConfigError(
            f"--kv-cache-dtype {self.kv_cache_dtype} needs a GPU; on the CPU engine use auto (the model's dtype)"
        )
    self.attention_backend = TORCH_BACKEND
    self.page_size = PAGE_SIZE
    return None

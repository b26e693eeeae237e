"""Which attention backend the name `torch_native` means on the CPU engine: ours for GLM-5.2, the host's for the rest.

The host decides by this name, in several places, to keep away from Triton. A name of our own would need a hook at each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend

from sglang_glm52.arch import is_glm52
from sglang_glm52.attention.torch_sparse import TorchSparseAttnBackend

if TYPE_CHECKING:
    from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
    from sglang.srt.model_executor.model_runner import ModelRunner


def create_torch_backend(model_runner: ModelRunner) -> AttentionBackend:
    """Factory for the host's `ATTENTION_BACKENDS` table."""
    if is_glm52(model_runner.model_config.hf_config):
        return TorchSparseAttnBackend(model_runner)
    return TorchNativeAttnBackend(model_runner)

"""Which model this process's server serves."""

from __future__ import annotations

from sglang.srt.server_args import get_global_server_args

from sglang_glm52.arch import is_glm52


def serves_glm52() -> bool:
    """Ask once SGLang has set its server arguments in this process."""
    return is_glm52(get_global_server_args().get_model_config().hf_config)

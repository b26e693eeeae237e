"""Give GLM-5.2 its own draft model class.

The host assumes that a GLM-5.2 draft model is DeepSeek's: it renames the draft's architecture to
`DeepseekV3ForCausalLMNextN` and looks that up. An entry of ours under that name would be built for DeepSeek too, so the
lookup is wrapped and asks for the model type. Read in 0.5.13.post1 (`model_loader/utils.py`, `get_model_architecture`;
`configs/model_config.py`, `_config_draft_model`). Without the hook the draft's router rounds its logits to bf16, and on
the CPU engine the class cannot be built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.arch import is_glm52

HOST_DRAFT = "DeepseekV3ForCausalLMNextN"


def choose_draft_model(original: Callable[[Any], tuple[type, str]], model_config: Any) -> tuple[type, str]:
    """AROUND `get_model_architecture`; (model class, architecture name)."""
    found = original(model_config)
    if not is_glm52(model_config.hf_config) or found[1] != HOST_DRAFT:
        return found
    from sglang_glm52.models.glm52_mtp import GlmMoeDsaForCausalLMNextN

    return GlmMoeDsaForCausalLMNextN, HOST_DRAFT

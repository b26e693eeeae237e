"""Whether rounds of speculation are prepared ahead: what the hooks for them ask first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang_glm52.arch import is_glm52
from sglang_glm52.env import settings

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs


def runs_ahead(server_args: ServerArgs) -> bool:
    """Whether the CPU prepares rounds of this server's model without waiting for the GPU.

    Not with DP attention, whose ranks pad their batches to each other's: no GPU has run that yet.
    """
    is_asked = settings().spec_rounds == "ahead" and not server_args.enable_dp_attention
    return is_asked and is_glm52(server_args.get_model_config().hf_config)

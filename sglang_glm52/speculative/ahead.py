"""Whether rounds of speculation are prepared ahead: what the hooks for them ask first."""

from __future__ import annotations

from typing import Any

from sglang_glm52.arch import is_glm52
from sglang_glm52.env import settings


def runs_ahead(config: Any) -> bool:
    """Whether the CPU prepares rounds of the model with this configuration without waiting for the GPU."""
    return settings().spec_rounds == "ahead" and is_glm52(config)

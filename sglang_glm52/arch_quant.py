"""The `quantization_config` section of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sglang_glm52.errors import ConfigError

METHODS = ("fp8", "w4afp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSection:
    """How a checkpoint's linear layers are stored."""

    method: str  # "fp8", or "w4afp8": int4 routed experts, the rest as in fp8
    weight_block_size: tuple[int, int]  # rows and columns under one FP8 scale
    group_size: int | None  # inputs under one int4 scale; None for fp8
    modules_to_not_convert: tuple[str, ...]
    activation_scheme: str  # "dynamic" or "static"

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None) -> QuantSection | None:
        """None for an unquantised checkpoint; ConfigError for a method or block size that is not supported."""
        if section is None:
            return None
        method = section.get("quant_method")
        if method not in METHODS:
            raise ConfigError(f"quantization_config.quant_method is {method!r}; supported: {', '.join(METHODS)}")
        block = tuple(section.get("weight_block_size") or (128, 128))
        if block != (128, 128):
            raise ConfigError(f"quantization_config.weight_block_size is {list(block)}; only [128, 128] is supported")
        return cls(
            method=method,
            weight_block_size=block,
            group_size=section.get("group_size", 128) if method == "w4afp8" else None,
            modules_to_not_convert=tuple(section.get("modules_to_not_convert") or section.get("ignored_layers") or ()),
            activation_scheme=section.get("activation_scheme", "dynamic"),
        )

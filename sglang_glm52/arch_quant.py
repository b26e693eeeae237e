"""The `quantization_config` section of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sglang_glm52.errors import ConfigError

METHODS = ("fp8", "w4afp8")
WEIGHT_BLOCK = (128, 128)
GROUP_SIZE = 128
ACTIVATION_SCHEMES = ("dynamic", "static")


@dataclass(frozen=True, slots=True)
class QuantSection:
    """How a checkpoint's linear layers are stored."""

    method: str  # "fp8", or "w4afp8": int4 routed experts, the rest as in fp8
    weight_block_size: tuple[int, int]  # rows and columns under one FP8 scale
    group_size: int | None  # inputs under one int4 scale; None for fp8
    modules_to_not_convert: tuple[str, ...]
    activation_scheme: str  # "dynamic" or "static"

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None) -> QuantSection | None:
        """None for an unquantised checkpoint.

        Raises:
            ConfigError: a method, block size, group size or activation scheme that is not supported.
        """
        if section is None:
            return None
        method = _one_of(section, "quant_method", METHODS)
        _one_of(section, "weight_block_size", (list(WEIGHT_BLOCK),), default=list(WEIGHT_BLOCK))
        if method == "w4afp8":
            _one_of(section, "group_size", (GROUP_SIZE,), default=GROUP_SIZE)
        return cls(
            method=method,
            weight_block_size=WEIGHT_BLOCK,
            group_size=GROUP_SIZE if method == "w4afp8" else None,
            modules_to_not_convert=tuple(section.get("modules_to_not_convert") or section.get("ignored_layers") or ()),
            activation_scheme=_one_of(section, "activation_scheme", ACTIVATION_SCHEMES, default="dynamic"),
        )


def _one_of(section: Mapping[str, Any], field: str, allowed: tuple[Any, ...], default: Any = None) -> Any:
    found = section.get(field)
    value = default if found is None else found
    value = list(value) if isinstance(value, tuple) else value
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise ConfigError(
            f"quantization_config has {field} = {found!r}; supported: {choices}. Use a checkpoint in that form"
        )
    return value

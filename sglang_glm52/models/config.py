"""The model's numbers from the configuration object that the host passes to a model class."""

from __future__ import annotations

import json

from sglang.srt.server_args import get_global_server_args
from transformers import PretrainedConfig

from sglang_glm52.arch import Glm52Arch


def read_arch(config: PretrainedConfig) -> Glm52Arch:
    """Read config.json again, with the overrides the server was given.

    The object itself is not enough: its class, in the transformers version that the host pins, drops or overwrites
    fields of GLM-5.2's file (rotary dimension, IndexShare pattern) before anything can read them.

    Raises:
        ConfigError: as `Glm52Arch.from_config`.
    """
    raw, _ = PretrainedConfig.get_config_dict(config._name_or_path)
    return Glm52Arch.from_config({**raw, **json.loads(get_global_server_args().json_model_override_args or "{}")})

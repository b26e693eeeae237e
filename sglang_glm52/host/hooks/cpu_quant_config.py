"""Load FP8 and W4AFP8 checkpoints on the CPU engine as unquantised layers.

The host assumes that a quantised checkpoint is computed on in its own format: the FP8 method builds FP8 parameters,
refuses float32 and calls kernels that the CPU engine does not have. Our loader dequantises wherever a parameter is not
quantised, so on the CPU the model only has to be built without a quantisation method. Wrapped here because this is the
one place where the host makes that choice for a model class. Read in 0.5.13.post1 (`model_loader/loader.py`,
`_get_quantization_config`). Without the hook an FP8 checkpoint fails on the CPU engine in its first linear layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang_glm52.arch import is_glm52


def dequantise_on_cpu(original: Callable[..., Any], model_config: Any, *args: Any, **kwargs: Any) -> Any:
    """AROUND `_get_quantization_config`; None means unquantised layers."""
    if is_glm52(model_config.hf_config):
        return None
    return original(model_config, *args, **kwargs)

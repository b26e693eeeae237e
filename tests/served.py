"""A process whose server serves a model, for hooks that ask which."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sglang_glm52.arch import MODEL_TYPE
from sglang_glm52.host import served_model


def serve(monkeypatch: pytest.MonkeyPatch, model_type: str = MODEL_TYPE) -> SimpleNamespace:
    """Stand in for the server arguments that SGLang sets; what is returned is the model's config.json."""
    hf_config = SimpleNamespace(model_type=model_type)
    args = SimpleNamespace(get_model_config=lambda: SimpleNamespace(hf_config=hf_config))
    monkeypatch.setattr(served_model, "get_global_server_args", lambda: args)
    return hf_config

"""The model loader of `drawn_model.py`, and the scheduler process that has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sglang.srt.plugins import load_plugins

load_plugins()  # before the model's modules are imported: they bind what plugins replace

from sglang.srt.configs.model_config import ModelConfig  # noqa: E402
from sglang.srt.managers.scheduler import run_scheduler_process  # noqa: E402
from sglang.srt.model_loader.loader import DefaultModelLoader  # noqa: E402
from sglang.srt.server_args import ServerArgs, get_global_server_args  # noqa: E402

from sglang_glm52.testing.drawn_model import drawn_tensors  # noqa: E402


class DrawingLoader(DefaultModelLoader):
    """Loads what is drawn where SGLang's loads files."""

    def _get_all_weights(self, model_config: ModelConfig, model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        return drawn_tensors(Path(model_config.model_path), get_global_server_args().device)


def run_scheduler(server_args: ServerArgs, *args: Any, **kwargs: Any) -> None:
    """Stands for SGLang's `run_scheduler_process`."""
    server_args.load_format = DrawingLoader  # a class is its own loader to SGLang
    run_scheduler_process(server_args, *args, **kwargs)

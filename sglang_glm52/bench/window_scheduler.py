"""SGLang's scheduler process with two additions: seeded weights where there are none, and a look at the model class."""

from __future__ import annotations

from typing import Any


def run_scheduler(package: str, is_seeded: bool, *args: Any, **kwargs: Any) -> None:
    """Stands for SGLang's `run_scheduler_process`; `package` is where the model class must come from."""
    from sglang.srt.plugins import load_plugins

    load_plugins()  # before the model's modules are imported: they bind what plugins replace
    from sglang.srt.managers.scheduler import run_scheduler_process
    from sglang.srt.model_executor import model_runner

    from sglang_glm52.bench.shard_engine import SeededModelRunner, model_class

    base = SeededModelRunner if is_seeded else model_runner.ModelRunner

    class CheckedModelRunner(base):
        def load_model(self) -> None:
            model_class(self.model_config, package)  # before minutes are spent on another class
            super().load_model()

    model_runner.ModelRunner = CheckedModelRunner
    run_scheduler_process(*args, **kwargs)

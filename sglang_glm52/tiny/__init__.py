"""Small random GLM-5.2 checkpoints in the published form: for demos, tests and CPU runs."""

from sglang_glm52.tiny.builder import build

__all__ = ["build"]

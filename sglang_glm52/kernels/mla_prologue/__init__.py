"""What a layer does between its projections and its attention, for a few tokens. `kernel.py` has more functions."""

from sglang_glm52.kernels.mla_prologue.kernel import mla_prologue

__all__ = ["mla_prologue"]

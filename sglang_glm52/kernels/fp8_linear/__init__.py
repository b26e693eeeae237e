"""FP8 linear layers for a few tokens."""

from sglang_glm52.kernels.fp8_linear.kernel import fp8_linear

__all__ = ["fp8_linear"]

"""A linear layer of its own for each head, for a few tokens."""

from sglang_glm52.kernels.head_linear.kernel import head_linear

__all__ = ["head_linear"]

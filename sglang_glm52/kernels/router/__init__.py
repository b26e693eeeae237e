"""The router of a mixture of experts, for a few tokens. `kernel.py` has its two steps."""

from sglang_glm52.kernels.router.kernel import router

__all__ = ["router"]

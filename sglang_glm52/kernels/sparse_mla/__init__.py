"""Attention of few heads to selected slots of an FP8 latent cache. `kernel.py` has the contract."""

from sglang_glm52.kernels.sparse_mla.kernel import sparse_mla

__all__ = ["sparse_mla"]

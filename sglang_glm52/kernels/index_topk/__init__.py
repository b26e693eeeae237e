"""The best positions of rows of indexer scores, exactly and in order. `kernel.py` has the contract."""

from sglang_glm52.kernels.index_topk.kernel import index_topk

__all__ = ["index_topk"]

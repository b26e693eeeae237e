"""One slab of a weight to int4 groups, with the error of every method. `kernel.py` has the contract."""

from sglang_glm52.kernels.int4_quantize.kernel import int4_quantize

__all__ = ["int4_quantize"]

"""The routed experts of one layer: int4 weights, FP8 activations. `kernel.py` has the contract."""

from sglang_glm52.kernels.int4_experts.kernel import int4_experts

__all__ = ["int4_experts"]

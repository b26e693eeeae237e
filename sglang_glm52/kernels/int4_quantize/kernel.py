"""A slab to int4 on a GPU in one launch: read once, searched in registers, written once.

reference: ref.py  cases: cases.py  benchmark: bench.py  tests: tests/kernels/test_int4_quantize.py
path: fused.py (Triton)
"""

from __future__ import annotations

import torch

from sglang_glm52.kernels.int4_quantize.slab import Int4Slab


def int4_quantize(weight: torch.Tensor, *, block_scale: torch.Tensor | None = None, method: str = "mse") -> Int4Slab:
    """The scales, nibbles and errors that `ref.py` finds, rounded alike: true division, half to even, bf16 scales.

    Only sums are taken in another order, so that of two scales whose errors differ in the last bit the other one may
    be chosen. Equal arguments give equal bits. Nothing waits for the device.

    Args:
        weight: [rows, cols] float8_e4m3fn, bf16, float16 or float32 on a GPU, contiguous, cols a multiple of 128.
        block_scale: [ceil(rows / 128), cols / 128] float32, contiguous: of the FP8 blocks that `weight` then is.
        method: a name in METHODS: which one's result is kept. The sums always have the errors of all.

    Returns:
        New tensors on the weight's device. Values that are not finite show in `sums` only.

    Raises:
        ValueError: shapes, dtypes, strides or devices are not as described.
    """
    from sglang_glm52.kernels.int4_quantize.fused import int4_quantize_fused  # with it comes Triton: not on a CPU

    return int4_quantize_fused(weight, block_scale=block_scale, method=method)

"""A KV pool for sparse attention on the CPU engine.

The host assumes that sparse-attention models run on CUDA: its pool writes through Triton kernels and keeps indexer
keys as FP8 pages. On the CPU engine Triton has no device. The class is replaced by a subclass, and not the code that
builds it, because that code chooses between eight kinds of pool. No other model uses this class on the CPU engine:
every sparse-attention model fails there earlier. Read in 0.5.13.post1 (`mem_cache/memory_pool.py`,
`DSATokenToKVPool`). Without the hook the first forward fails inside Triton.
"""

from sglang_glm52.memory.torch_pool import TorchDsaKVPool

__all__ = ["TorchDsaKVPool"]

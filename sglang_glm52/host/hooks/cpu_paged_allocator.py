"""Pages of 64 tokens on the CPU engine.

The host assumes a page size of 1 wherever Triton has no device: its paged allocator computes slots in two Triton
kernels. GLM-5.2 uses pages of 64 on CUDA, and the CPU engine is to page, share prefixes and evict as CUDA does. The
class is replaced by a subclass with the two methods in torch. Models that keep the CPU engine's page size of 1 never
build it. Read in 0.5.13.post1 (`mem_cache/allocator/paged.py`). Without the hook the first prefill fails inside
Triton.
"""

from sglang_glm52.memory.torch_allocator import TorchPagedAllocator

__all__ = ["TorchPagedAllocator"]

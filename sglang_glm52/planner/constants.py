"""Every number that shapes do not give, each with its source. No other module states one."""

from __future__ import annotations

from dataclasses import dataclass

MIB, GIB = 1 << 20, 1 << 30

PAGE_SIZE = 64  # KV slots a page: the only size SGLang's pool for sparse attention takes
FP8_SCALE_TILE = 128  # latents, or indexer key dimensions, under one float32 scale
RUNNING_REQUESTS = 64  # our default for --max-running-requests; SGLang's own is 2048, a request table of 8 GiB at 1M
DRAFT_TOKENS = 2  # our default for --draft-tokens: one step of EAGLE, as published for this model
CHUNKED_PREFILL_SIZE = 8192  # SGLang's default on GPUs of 60 to 160 GiB
INT4_PART_BYTES = 384 * MIB  # of outputs that the int4 kernel for prefills keeps together (`PART_BYTES` there)
FEW_HEADS = (4, 8, 16)  # of a GPU, to which this package's own kernel attends (`HEADS` of kernels/sparse_mla)
FUSION_TOKENS = 2048  # of the largest batch whose all-reduces SGLang fuses (`FUSE_ALLREDUCE_MAX_BATCH_SIZE`)
FUSION_MOST_BYTES = (1 << 31) - (2 << 20)  # of a buffer for one-shot all-reduces (FlashInfer 0.6.12, `MAX_COMM_SIZE`)
MAX_MEM_FRACTION, MEM_FRACTION_STEP = 0.95, 0.005  # between which --mem-fraction-static is chosen


@dataclass(frozen=True, slots=True)
class Constant:
    """A number and where it is from."""

    value: float
    source: str


_HOST = "SGLang 0.5.13.post1"
_START = "https://github.com/sgl-project/sglang/pull/11716"

# GPU memory in use when a server starts to load weights: CUDA context, cuBLAS, NCCL and custom all-reduce buffers.
START_BYTES = Constant(2.52 * GIB, f"8 x H200: 139.81 GiB less the 137.29 GiB free before loading, {_START}")
START_BYTES_ONE_GPU = Constant(0.51 * GIB, f"the above without the 2.01 GiB that torch.distributed took, {_START}")

# SGLang's own estimates, from which it derives --mem-fraction-static (`_handle_gpu_memory_settings`).
GRAPH_BYTES_PER_ROW = Constant(2 * MIB, f"{_HOST}: 2 MiB for each row of the largest CUDA graph")
PIECEWISE_GRAPH_BYTES = Constant(1.5 * GIB, f"{_HOST}: 1.5 GiB for the piecewise CUDA graphs of an MLA model")
METADATA_BYTES = Constant(0.5 * GIB, f"{_HOST}: 512 MiB for constant metadata, such as an attention backend's")

# Ours, not measured.
MARGIN_BYTES = Constant(2 * GIB, "ours: for fragmentation and kernels' scratch memory, not measured")

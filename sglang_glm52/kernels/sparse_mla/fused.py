"""sparse_mla in CUDA C++ (folder cuda), one launch: a token is a block's, or with few tokens a cluster's of blocks.

Heads are the columns of every matrix product, keys and latents the rows, so none of the work is padding with 8 heads.
Keys go from the cache into shared memory as they are, and are read there twice: for scores, and as values.
"""

from __future__ import annotations

import math
from functools import cache as once
from pathlib import Path

import torch
from cuda.bindings import driver

from sglang_glm52.kernels.cuda_source import Kernel, Macros, load
from sglang_glm52.kernels.sparse_mla.kernel import SLOT_BYTES, check_inputs
from sglang_glm52.kernels.sparse_mla.tuning import LATENTS, Tuning, choose_tuning

SOURCE = Path(__file__).with_name("cuda") / "mla.cu"
NAME = "sparse_mla"
_PORTABLE_CLUSTER = 8  # blocks; more must be allowed for a kernel


def sparse_mla_fused(
    q_nope: torch.Tensor, q_rope: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor, scale: float
) -> torch.Tensor:
    """See `kernel.sparse_mla`: the same arguments, result and errors.

    The first call with a number of heads and a class of numbers of tokens compiles or loads the kernel: make it before
    a CUDA graph is captured.
    """
    check_inputs(q_nope, q_rope, cache, slots)
    if q_nope.shape[0] == 0:
        return q_nope.new_empty(q_nope.shape)
    return run(choose_tuning(*q_nope.shape[:2], slots.shape[1]), q_nope, q_rope, cache, slots, scale)


def run(
    tuning: Tuning, q_nope: torch.Tensor, q_rope: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor, scale: float
) -> torch.Tensor:
    """`sparse_mla_fused` with sizes of one's own and unchecked arguments, at least one token."""
    num_tokens, heads, _ = q_nope.shape
    topk = slots.shape[1]
    out = torch.empty(num_tokens, heads, LATENTS, dtype=q_nope.dtype, device=q_nope.device)
    compiled(tuning, heads, topk, q_nope.device).launch(
        (num_tokens * tuning.splits, 1),
        tuning.threads,
        tuning.shared_bytes(heads, topk),
        (
            *(q_nope, *q_nope.stride()[:2], q_rope, *q_rope.stride()[:2]),
            *(cache, cache.numel() // SLOT_BYTES, slots, scale * math.log2(math.e), out),
        ),
        stream=torch.cuda.current_stream(q_nope.device).cuda_stream,
    )
    return out


@once
def compiled(tuning: Tuning, heads: int, topk: int, device: torch.device) -> Kernel:
    kernel = load(SOURCE, (NAME,), macros(tuning, heads, topk), device)[NAME]
    if tuning.splits > _PORTABLE_CLUSTER:
        allowed = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
        [status] = driver.cuFuncSetAttribute(kernel.function, allowed, 1)
        if status.value:
            raise RuntimeError(f"clusters of {tuning.splits} blocks for {NAME}: {status.name}")
    return kernel


def macros(tuning: Tuning, heads: int, topk: int) -> Macros:
    """What mla.cu is compiled with."""
    return tuple({"HEADS": heads, "TOPK": topk, **tuning.macros()}.items())

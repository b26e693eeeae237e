"""index_topk in CUDA C++ (folder cuda), one launch: a cluster of blocks takes a row and selects by radix.

The blocks count in their own shared memory and read each other's there, so there is no workspace and no spinning, and
calls on several streams do not meet. How many of its blocks a row uses follows from its length.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from cuda.bindings import driver

from sglang_glm52.kernels.cuda_source import Kernel, load, num_multiprocessors
from sglang_glm52.kernels.index_topk.kernel import check_inputs
from sglang_glm52.kernels.index_topk.tuning import Tuning, choose_tuning

SOURCE = Path(__file__).with_name("cuda") / "topk.cu"
NAME = "index_topk"


def index_topk_clusters(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    *,
    starts: torch.Tensor | None = None,
    table: torch.Tensor | None = None,
    table_rows: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
) -> torch.Tensor:
    """See `kernel.index_topk`: the same arguments, result and errors.

    The first calls compile or load kernels, one for each size of cluster: make them before a CUDA graph is captured.
    """
    check_inputs(scores, lengths, topk, starts, table, table_rows, offsets)
    tuning = choose_tuning(*scores.shape, num_multiprocessors(scores.device))
    return run(tuning, scores, lengths, topk, starts, table, table_rows, offsets)


def run(
    tuning: Tuning,
    scores: torch.Tensor,
    lengths: torch.Tensor,
    topk: int,
    starts: torch.Tensor | None = None,
    table: torch.Tensor | None = None,
    table_rows: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
) -> torch.Tensor:
    """`index_topk_clusters` with sizes of one's own and unchecked arguments."""
    rows, columns = scores.shape
    out = torch.empty(rows, topk, dtype=torch.int32, device=scores.device)
    if rows == 0:
        return out
    table_stride = 0 if table is None else table.stride(0)
    compiled(tuning, scores.device).launch(
        (rows * tuning.cluster, 1),
        tuning.threads,
        tuning.shared_bytes(columns),
        (
            *(scores, columns, scores.stride(0), lengths, starts),
            *(table, table_stride, table_rows, offsets),
            *(topk, tuning.words(columns), out),
        ),
        stream=torch.cuda.current_stream(scores.device).cuda_stream,
    )
    return out


@cache
def compiled(tuning: Tuning, device: torch.device) -> Kernel:
    kernel = load(SOURCE, (NAME,), tuple(tuning.macros().items()), device)[NAME]
    allowed = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
    [status] = driver.cuFuncSetAttribute(kernel.function, allowed, 1)
    if status.value:
        raise RuntimeError(f"clusters of {tuning.cluster} blocks for {NAME}: {status.name}")
    return kernel

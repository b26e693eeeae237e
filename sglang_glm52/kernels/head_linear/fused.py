"""head_linear in CUDA C++ (folder cuda): a warp has its weights on their way before it waits for what it multiplies."""

from __future__ import annotations

from pathlib import Path

import torch

from sglang_glm52.kernels.cuda_source import Macros, load
from sglang_glm52.kernels.head_linear.kernel import MAX_TOKENS, ROWS, check_inputs

SOURCE = Path(__file__).with_name("cuda") / "head_linear.cu"
NAME = "head_linear"
WARP = 32


def head_linear_fused(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """See `kernel.head_linear`: the same arguments, result and errors.

    The first call with a shape, whatever the number of tokens, compiles or loads the kernel: make it before a CUDA
    graph is captured.
    """
    check_inputs(x, weight)
    heads, outputs, inputs = weight.shape
    out = x.new_empty(x.shape[0], heads, outputs)
    if x.shape[0] > MAX_TOKENS:
        torch.bmm(x.transpose(0, 1), weight.transpose(1, 2), out=out.transpose(0, 1))
    elif out.numel():
        load(SOURCE, (NAME,), macros(heads, outputs, inputs), x.device)[NAME].launch(
            (heads * outputs // ROWS, 1),
            WARP,
            0,
            (x, weight, x.shape[0], out),
            stream=torch.cuda.current_stream(x.device).cuda_stream,
        )
    return out


def macros(heads: int, outputs: int, inputs: int) -> Macros:
    """What head_linear.cu is compiled with."""
    return (("HEADS", heads), ("OUTPUTS", outputs), ("INPUTS", inputs))

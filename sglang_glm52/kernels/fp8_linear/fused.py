"""fp8_linear in CUDA C++ (folder cuda): each block rounds the inputs itself, while its weights are on their way."""

from __future__ import annotations

from pathlib import Path

import torch

from sglang_glm52.kernels.cuda_source import Macros, load, num_multiprocessors
from sglang_glm52.kernels.fp8_linear.kernel import check_inputs
from sglang_glm52.kernels.fp8_linear.tuning import Tuning, choose_tuning, token_tiles

SOURCE = Path(__file__).with_name("cuda") / "linear.cu"
NAME = "fp8_linear"


def fp8_linear_fused(x: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """See `kernel.fp8_linear`: the same arguments, result and errors.

    The first call with a shape and number of tokens compiles or loads the kernel: make it before a CUDA graph is
    captured.
    """
    check_inputs(x, weight, weight_scale)
    if x.shape[0] == 0:
        return x.new_empty(0, weight.shape[0])
    return run(choose_tuning(*weight.shape, x.shape[0], num_multiprocessors(x.device)), x, weight, weight_scale)


def run(tuning: Tuning, x: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """`fp8_linear_fused` with sizes of one's own and unchecked arguments, at least one token."""
    num_tokens, (outputs, inputs) = x.shape[0], weight.shape
    tiles = token_tiles(num_tokens)
    out = x.new_empty(num_tokens, outputs)
    load(SOURCE, (NAME,), macros(tuning, outputs, inputs, tiles), x.device)[NAME].launch(
        (tuning.blocks(outputs), 1),
        tuning.warps * 32,
        tuning.shared_bytes(tiles),
        (weight, weight_scale, x, num_tokens, out),
        stream=torch.cuda.current_stream(x.device).cuda_stream,
    )
    return out


def macros(tuning: Tuning, outputs: int, inputs: int, tiles: int) -> Macros:
    """What linear.cu is compiled with."""
    return tuple({"OUTPUTS": outputs, "INPUTS": inputs, "TOKEN_TILES": tiles, **tuning.macros()}.items())

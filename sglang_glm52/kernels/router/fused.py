"""The router in CUDA C++ (folder cuda), one launch for the logits and one for the choice.

The first call with a shape compiles or loads a kernel: make it before a CUDA graph is captured. The number of tokens is
no part of it, but for `router_logits`, which has kernels for up to 8, 16 and 32.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sglang_glm52.kernels.cuda_source import Macros, load
from sglang_glm52.kernels.router.kernel import check_choice, check_logits

CUDA = Path(__file__).with_name("cuda")
LOGIT_THREADS, LOGIT_SPLITS = 256, 8  # of a block; blocks that share out the inputs of 16 experts
LOGIT_ROWS, LOGIT_COLUMNS = 16, 8  # experts and tokens of one product
TOKEN_TILES = (1, 2, 4)  # of 8 tokens, for which there are kernels
CHOICE_WARPS = 4  # of a block, a token each


def router_fused(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, topk: int, *, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernel.router`: the same arguments, results and errors."""
    return choose_experts_fused(router_logits_fused(x, weight), bias, topk, renormalize=renormalize)


def router_logits_fused(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """See `kernel.router_logits`: the same arguments, result and errors."""
    check_logits(x, weight)
    num_tokens, num_experts = x.shape[0], weight.shape[0]
    logits = x.new_empty(num_tokens, num_experts, dtype=torch.float32)
    if num_tokens:
        kernel = load(CUDA / "logits.cu", ("router_logits",), logit_macros(x.shape[1], num_tokens), x.device)
        kernel["router_logits"].launch(
            (-(-num_experts // LOGIT_ROWS) * LOGIT_SPLITS, 1),
            LOGIT_THREADS,
            0,
            (x, weight, num_tokens, num_experts, logits),
            stream=torch.cuda.current_stream(x.device).cuda_stream,
        )
    return logits


def choose_experts_fused(
    logits: torch.Tensor, bias: torch.Tensor, topk: int, *, renormalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernel.choose_experts`: the same arguments, results and errors."""
    check_choice(logits, bias, topk)
    num_tokens, num_experts = logits.shape
    weights = logits.new_empty(num_tokens, topk)
    experts = torch.empty_like(weights, dtype=torch.int32)
    if num_tokens:
        kernel = load(CUDA / "choice.cu", ("choose_experts",), choice_macros(num_experts, topk), logits.device)
        kernel["choose_experts"].launch(
            (-(-num_tokens // CHOICE_WARPS), 1),
            CHOICE_WARPS * 32,
            0,
            (logits, bias, num_tokens, int(renormalize), weights, experts),
            stream=torch.cuda.current_stream(logits.device).cuda_stream,
        )
    return weights, experts


def logit_macros(hidden: int, num_tokens: int) -> Macros:
    """What logits.cu is compiled with."""
    tiles = next(count for count in TOKEN_TILES if count * LOGIT_COLUMNS >= num_tokens)
    return (("HIDDEN", hidden), ("TOKEN_TILES", tiles))


def choice_macros(num_experts: int, topk: int) -> Macros:
    """What choice.cu is compiled with."""
    return (("EXPERTS", num_experts), ("TOPK", topk), ("WARPS", CHOICE_WARPS))

"""The FP8 linear layer in plain torch, as the formulas stand. Runs on a CPU."""

from __future__ import annotations

import torch

from sglang_glm52.formats.fp8_block import BLOCK, E4M3_MAX

LEAST_ABSMAX = 1e-10  # the host's: a group of zeros has a scale


def fp8_linear(x: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """fp8(x) @ weight^T.

    Args:
        x: [num_tokens, inputs] bf16.
        weight: [outputs, inputs] float8_e4m3fn. weight_scale: [ceil(outputs / 128), inputs / 128] float32.

    Returns:
        [num_tokens, outputs] bf16; products and sums are float32.
    """
    return product(*quantize_groups(x), weight, weight_scale)


def quantize_groups(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round each token's groups of 128 inputs to FP8.

    Values are multiplied by 448 / absmax, the scale is absmax * (1 / 448), each rounded on its own: that is how the
    host's kernel does it, whose quotient may also differ from this one in the last bit.

    Returns:
        e4m3 values as float32 [num_tokens, inputs], and scales [num_tokens, inputs / 128] float32.
    """
    groups = x.float().unflatten(1, (-1, BLOCK))
    absmax = groups.abs().amax(dim=2).clamp_min(LEAST_ABSMAX)
    factor = torch.full_like(absmax, E4M3_MAX) / absmax  # on CUDA torch would multiply by a number's reciprocal
    q = (groups * factor.unsqueeze(2)).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float()
    return q.flatten(1), absmax * (torch.ones_like(absmax) / E4M3_MAX)


def product(q: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """[num_tokens, inputs] with scales by group, times block-scaled weights -> [num_tokens, outputs] bf16."""
    out = q.new_zeros(q.shape[0], weight.shape[0])
    of_row = weight_scale.repeat_interleave(BLOCK, 0)[: weight.shape[0]]  # [outputs, inputs / 128]
    for group in range(q.shape[1] // BLOCK):
        columns = slice(group * BLOCK, (group + 1) * BLOCK)
        out += q[:, columns] @ weight[:, columns].float().T * (scale[:, group, None] * of_row[:, group])
    return out.bfloat16()

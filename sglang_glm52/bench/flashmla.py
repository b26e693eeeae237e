"""FlashMLA's kernels as SGLang calls them on Hopper, for the bench: queries padded to 64 heads."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sglang_glm52.kernels.sparse_mla import ref
from sglang_glm52.kernels.sparse_mla.cases import SCALE, Inputs
from sglang_glm52.kernels.sparse_mla.kernel import SLOT_BYTES
from sglang_glm52.kernels.sparse_mla.tuning import LATENTS

HEADS, PAGE = 64, 64

Attend = Callable[[torch.Tensor], torch.Tensor]  # slots [num_tokens, topk] -> [num_tokens, HEADS, 512]


def of_decode(inputs: Inputs) -> Attend:
    """The kernel for decode steps, which reads the FP8 cache, and its combine kernel."""
    from sgl_kernel.flash_mla import flash_mla_with_kvcache, get_mla_metadata

    num_tokens, topk = inputs.slots.shape
    lengths = torch.full((num_tokens,), topk, dtype=torch.int32, device=inputs.slots.device)
    schedule, num_splits = get_mla_metadata(lengths, HEADS, 1, HEADS, True, topk)
    query = torch.cat([inputs.q_nope, inputs.q_rope], dim=2)

    def attend(slots: torch.Tensor) -> torch.Tensor:
        out, _ = flash_mla_with_kvcache(
            q=_padded(query).unsqueeze(1),
            k_cache=inputs.cache.view(-1, PAGE, 1, SLOT_BYTES),
            cache_seqlens=lengths,
            head_dim_v=LATENTS,
            tile_scheduler_metadata=schedule,
            num_splits=num_splits,
            softmax_scale=SCALE,
            indices=slots.unsqueeze(1),
            block_table=lengths.new_empty(num_tokens, 0),
            is_fp8_kvcache=True,
        )
        return out.squeeze(1)

    return attend


def of_prefill(inputs: Inputs) -> Attend:
    """The kernel for prefills, which reads bf16: the cache is dequantised before, untimed."""
    from sgl_kernel.flash_mla import flash_mla_sparse_fwd

    keys = ref.dequantize(inputs.cache.view(torch.uint8), torch.float32).bfloat16().unsqueeze(1)
    query = torch.cat([inputs.q_nope, inputs.q_rope], dim=2)

    def attend(slots: torch.Tensor) -> torch.Tensor:
        return flash_mla_sparse_fwd(q=_padded(query), kv=keys, indices=slots.unsqueeze(1), sm_scale=SCALE, d_v=LATENTS)[
            0
        ]

    return attend


def _padded(query: torch.Tensor) -> torch.Tensor:
    padded = query.new_zeros(len(query), HEADS, query.shape[2])
    padded[:, : query.shape[1]] = query
    return padded

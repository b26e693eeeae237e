"""A decode step between its projections in four launches a layer, attention among them: CUDA, an FP8 cache, few heads.

The host launches some twelve kernels there: norms, rotary parts, quantising and storing the latent, the absorbed query
and its copies, attention, the values; and eight more on a layer with an indexer, for which there is one. Results of
`kernels/mla_prologue` are the host's to the bit, but for sums of the absorbed query in another order,
`kernels/sparse_mla` attends to what it has stored, and `kernels/head_linear` makes values of that. Verification and
draft-extend are decode steps of several tokens a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sglang.srt.batch_invariant_ops import is_batch_invariant_mode_enabled
from sglang.srt.compilation.piecewise_context_manager import is_in_piecewise_cuda_graph
from sglang.srt.environ import envs
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.forward_context import get_attn_backend, get_token_to_kv_pool

from sglang_glm52.attention.few_heads import is_attended_here
from sglang_glm52.env import settings
from sglang_glm52.kernels.head_linear import head_linear
from sglang_glm52.kernels.mla_prologue.kernel import absorbed_query, mla_prologue
from sglang_glm52.kernels.sparse_mla import sparse_mla

if TYPE_CHECKING:
    from sglang_glm52.models.attention import Glm52Attention


def is_fused(forward_batch: ForwardBatch, num_rows: int) -> bool:
    """Whether this batch's `num_rows` tokens go this way; a piecewise graph is traced past the question."""
    if is_in_piecewise_cuda_graph() or settings().decode_prologue != "fused":
        return False
    mode = forward_batch.forward_mode
    is_decode = mode.is_decode() or mode.is_target_verify() or mode.is_draft_extend(include_v2=True)
    if not is_decode or len(forward_batch.out_cache_loc) != num_rows:  # rows that pad attention-DP have no slot
        return False
    backend = get_attn_backend()
    if getattr(backend, "dsa_decode_impl", None) != "flashmla_kv":  # the torch backend has no such choice
        return False
    has_slots = envs.SGLANG_DSA_FUSE_TOPK.get() and backend.hisparse_coordinator is None
    return has_slots and is_attended_here(backend) and not is_batch_invariant_mode_enabled()


def norm_and_store(
    attention: Glm52Attention, latent: torch.Tensor, positions: torch.Tensor, forward_batch: ForwardBatch
) -> torch.Tensor:
    """[num_tokens, q_lora + kv_lora + rope] -> the normed query latent [num_tokens, q_lora]; keys go to the pool."""
    return mla_prologue(
        latent,
        attention.q_a_layernorm.weight,
        attention.kv_a_layernorm.weight,
        attention.arch.rms_norm_eps,
        positions,
        attention.rotary_emb.cos_sin_cache,
        forward_batch.out_cache_loc,
        get_token_to_kv_pool().get_key_buffer(attention.layer_id).view(torch.uint8),
    )


def attend(
    attention: Glm52Attention, q: torch.Tensor, positions: torch.Tensor, selection: torch.Tensor
) -> torch.Tensor:
    """Heads' queries [num_tokens, heads, nope + rope] and slots [num_tokens, topk] -> [num_tokens, heads, kv_lora]."""
    heads, rank = attention.num_local_heads, attention.arch.kv_lora_rank
    query = absorbed_query(q, attention.w_kc, positions, attention.rotary_emb.cos_sin_cache, heads)
    slots = get_attn_backend()._pad_topk_indices(selection, len(query))
    cache = get_token_to_kv_pool().get_key_buffer(attention.layer_id)
    scale = attention.attn_mqa.scaling
    return sparse_mla(query[..., :rank], query[..., rank:], cache, slots.contiguous(), scale)


def values(attention: Glm52Attention, attended: torch.Tensor) -> torch.Tensor:
    """[num_tokens, heads, kv_lora] -> [num_tokens, heads * v]."""
    return head_linear(attended, attention.w_vc.transpose(1, 2)).flatten(1)

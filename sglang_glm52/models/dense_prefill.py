"""Dense attention for a prefill whose whole context fits in `index_topk` tokens.

Selecting every position equals dense causal attention, so keys and values are expanded for the batch (prefix included)
and handed to the backend's multi-head kernel. Indexer keys are still written on layers that have an indexer: the tokens
become somebody's prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sglang.srt.layers.attention.dsa.dequant_k_cache import dequantize_k_cache_paged
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.forward_context import get_attn_backend, get_token_to_kv_pool

if TYPE_CHECKING:
    from sglang_glm52.models.attention import Glm52Attention


def dense_prefill(
    attn: Glm52Attention,
    positions: torch.Tensor,
    hidden_states: torch.Tensor,
    forward_batch: ForwardBatch,
    q_latent: torch.Tensor,
    kv_latent: torch.Tensor,
    k_pe: torch.Tensor,
) -> torch.Tensor:
    """Return heads' outputs [num_tokens, heads * v_head_dim]; latents come in before their norms."""
    arch = attn.arch
    q_latent = attn.q_a_layernorm(q_latent)
    q = attn._heads(q_latent)
    if attn.indexer is not None:
        attn.indexer(
            x=hidden_states,
            q_lora=q_latent,
            positions=positions,
            forward_batch=forward_batch,
            layer_id=attn.layer_id,
            return_indices=False,
        )
    kv_latent = attn.kv_a_layernorm(kv_latent).unsqueeze(1)
    q_pe, k_pe = attn.rotary_emb(positions, q[..., arch.qk_nope_head_dim :], k_pe.unsqueeze(1))
    q[..., arch.qk_nope_head_dim :] = q_pe
    get_token_to_kv_pool().set_mla_kv_buffer(attn.attn_mha, forward_batch.out_cache_loc, kv_latent, k_pe)
    if any(forward_batch.extend_prefix_lens_cpu):
        kv_latent, k_pe = _prefix_and_new(attn, forward_batch, q.dtype)
    k, v = _expand(attn, kv_latent.squeeze(1), k_pe)
    forward_batch.mha_one_shot = True
    forward_batch.mha_return_lse = False
    forward_batch.set_attn_attend_prefix_cache(False)
    out = attn.attn_mha(q, k, v, forward_batch, save_kv_cache=False)
    return out.reshape(-1, attn.num_local_heads * arch.v_head_dim)


def _prefix_and_new(
    attn: Glm52Attention, forward_batch: ForwardBatch, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents [tokens, 1, kv_lora] and rotary keys [tokens, 1, rope] of every request's context, from the cache."""
    pool = get_token_to_kv_pool()
    if pool.dtype == torch.float8_e4m3fn:
        rows = get_attn_backend().forward_metadata.page_table_1_flattened
        latent = dequantize_k_cache_paged(pool.get_key_buffer(attn.layer_id), rows)
        kv_latent, k_pe = latent.split(attn.kv_dims, dim=-1)
        return kv_latent.contiguous(), k_pe
    forward_batch.mha_one_shot = True
    return pool.get_mla_kv_buffer(attn.attn_mha, forward_batch.fetch_mha_one_shot_kv_indices(), dtype)


def _expand(attn: Glm52Attention, kv_latent: torch.Tensor, k_pe: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`kv_b_proj`: keys [tokens, heads, nope + rope] and values [tokens, heads, v]."""
    arch = attn.arch
    kv = attn.kv_b_proj(kv_latent)[0].view(-1, attn.num_local_heads, arch.qk_nope_head_dim + arch.v_head_dim)
    k_nope, v = kv.split([arch.qk_nope_head_dim, arch.v_head_dim], dim=-1)
    return torch.cat([k_nope, k_pe.expand(-1, attn.num_local_heads, -1)], dim=-1), v

"""The DSA lightning indexer: which earlier positions a token attends to.

    score[t, s] = sum_h weight[t, h] * relu(q[t, h] . k[s]),  weight = (x @ weights_proj) * H^-0.5 * D^-0.5  (h: heads)

and the `index_topk` best positions s <= t are kept. CUDA runs the host's indexer (FP8 keys and queries after a Hadamard
rotation, which leaves dot products unchanged), whose prefill scores `memory/bounded_indexer.py` computes in pieces; the
CPU runs the class below in the model's dtype. Both have the same parameters, so a checkpoint loads into either.
"""

from __future__ import annotations

import torch
from sglang.srt.layers.linear import ReplicatedLinear
from sglang.srt.layers.quantization.base_config import QuantizationConfig
from sglang.srt.layers.rotary_embedding import get_rope
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.forward_context import get_attn_backend, get_token_to_kv_pool
from sglang.srt.utils import add_prefix, is_cuda
from torch import nn

from sglang_glm52.arch import Glm52Arch

KEY_NORM_EPS = 1e-6  # torch's default; the checkpoint's rms_norm_eps is for RMS norms alone


def build_indexer(
    arch: Glm52Arch,
    layer_id: int,
    quant_config: QuantizationConfig | None,
    prefix: str,
    alt_stream: torch.cuda.Stream | None,
) -> nn.Module:
    """The indexer of a full layer for the device the engine runs on."""
    if not is_cuda():
        return TorchIndexer(arch, quant_config, add_prefix("indexer", prefix))
    from sglang_glm52.memory.bounded_indexer import BoundedIndexer

    return BoundedIndexer(
        hidden_size=arch.hidden_size,
        index_n_heads=arch.index_num_heads,
        index_head_dim=arch.index_head_dim,
        rope_head_dim=arch.qk_rope_head_dim,
        index_topk=arch.index_topk,
        q_lora_rank=arch.q_lora_rank,
        max_position_embeddings=arch.max_positions,
        rope_theta=arch.rope_theta,
        layer_id=layer_id,
        scale_fmt="ue8m0",
        is_neox_style=not arch.indexer_rope_interleave,
        prefix=add_prefix("indexer", prefix),
        quant_config=quant_config,
        alt_stream=alt_stream,
    )


class TorchIndexer(nn.Module):
    """The indexer in plain torch; the reference of the CUDA one and the CPU engine's own."""

    def __init__(self, arch: Glm52Arch, quant_config: QuantizationConfig | None, prefix: str) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.topk = arch.index_num_heads, arch.index_head_dim, arch.index_topk
        self.rope_dim = arch.qk_rope_head_dim
        kwargs = {"bias": False, "quant_config": quant_config}
        out = self.num_heads * self.head_dim
        self.wq_b = ReplicatedLinear(arch.q_lora_rank, out, prefix=add_prefix("wq_b", prefix), **kwargs)
        self.wk = ReplicatedLinear(arch.hidden_size, self.head_dim, prefix=add_prefix("wk", prefix), **kwargs)
        self.weights_proj = ReplicatedLinear(arch.hidden_size, self.num_heads, bias=False)
        self.k_norm = nn.LayerNorm(self.head_dim, eps=KEY_NORM_EPS, dtype=torch.float32)
        self.rotary_emb = get_rope(
            self.rope_dim,
            rotary_dim=self.rope_dim,
            max_position=arch.max_positions,
            base=arch.rope_theta,
            is_neox_style=not arch.indexer_rope_interleave,
        )

    def forward(
        self,
        x: torch.Tensor,
        q_lora: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        layer_id: int,
        return_indices: bool = True,
    ) -> torch.Tensor | None:
        """Write this batch's keys to the pool, then select.

        Args:
            x: [num_tokens, hidden], the layer's normed input.
            q_lora: [num_tokens, q_lora_rank], the normed query latent.

        Returns:
            [num_tokens, index_topk] int64 positions within each token's request, -1 where there are fewer; None with
            `return_indices=False`.
        """
        q = self.wq_b(q_lora)[0].unflatten(-1, (self.num_heads, self.head_dim))
        k = self.k_norm(self.wk(x)[0].float()).to(x.dtype).unsqueeze(1)
        q_pe, k_pe = self.rotary_emb(positions, q[..., : self.rope_dim], k[..., : self.rope_dim])
        q = torch.cat([q_pe, q[..., self.rope_dim :]], dim=-1)
        k = torch.cat([k_pe, k[..., self.rope_dim :]], dim=-1).squeeze(1)
        get_token_to_kv_pool().set_index_k(layer_id, forward_batch.out_cache_loc, k)
        if not return_indices:
            return None
        head_weights = self.weights_proj(x)[0].float() * (self.num_heads**-0.5 * self.head_dim**-0.5)
        return get_attn_backend().select(layer_id, q, head_weights, self.topk)

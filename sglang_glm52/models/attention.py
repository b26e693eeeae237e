"""Multi-head latent attention (MLA) over the positions that the DSA indexer selects.

Keys and values are one latent of `kv_lora_rank` numbers a token plus a rotary part of `qk_rope_head_dim`, shared by all
heads. Sparse attention works on the latents themselves: `kv_b_proj` is absorbed into the query (`w_kc`) and into the
output (`w_vc`). With at most `index_topk` tokens of context every position is selected, so a short prefill may instead
expand keys and values and attend densely (`dense_prefill.py`), which costs less per token.
"""

from __future__ import annotations

import torch
from sglang.srt.compilation.piecewise_context_manager import is_in_piecewise_cuda_graph
from sglang.srt.layers.communicator import get_attn_tp_context
from sglang.srt.layers.dp_attention import get_attention_tp_rank, get_attention_tp_size
from sglang.srt.layers.layernorm import RMSNorm
from sglang.srt.layers.linear import ColumnParallelLinear, ReplicatedLinear, RowParallelLinear
from sglang.srt.layers.quantization.base_config import QuantizationConfig
from sglang.srt.layers.radix_attention import RadixAttention
from sglang.srt.layers.rotary_embedding import get_rope
from sglang.srt.model_executor.cuda_graph_runner import get_is_capture_mode
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.forward_context import get_attn_backend
from sglang.srt.utils import add_prefix
from torch import nn

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.attention import fused_decode
from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.models.dense_prefill import dense_prefill
from sglang_glm52.models.indexer import build_indexer


class Glm52Attention(nn.Module):
    """One layer's attention. A layer without an indexer reads the selection that is passed in."""

    def __init__(
        self,
        arch: Glm52Arch,
        layer_id: int,
        quant_config: QuantizationConfig | None,
        prefix: str,
        alt_stream: torch.cuda.Stream | None,
        *,
        has_indexer: bool,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.layer_id = layer_id
        self.alt_stream = alt_stream
        self.kv_dims = [arch.kv_lora_rank, arch.qk_rope_head_dim]
        self.q_dims = [arch.qk_nope_head_dim, arch.qk_rope_head_dim]
        self._build_projections(arch, quant_config, prefix)
        self.rotary_emb = get_rope(
            arch.qk_rope_head_dim,
            rotary_dim=arch.qk_rope_head_dim,
            max_position=arch.max_positions,
            base=arch.rope_theta,
            is_neox_style=not arch.rope_interleave,
        )
        self.indexer = build_indexer(arch, layer_id, quant_config, prefix, alt_stream) if has_indexer else None
        self._build_attention(arch, quant_config, prefix)
        self.register_buffer("w_kc", None, persistent=False)
        self.register_buffer("w_vc", None, persistent=False)

    def _build_projections(self, arch: Glm52Arch, quant_config: QuantizationConfig | None, prefix: str) -> None:
        tp = {"tp_rank": get_attention_tp_rank(), "tp_size": get_attention_tp_size()}
        kwargs = {"bias": False, "quant_config": quant_config}
        self.num_local_heads = arch.num_heads // tp["tp_size"]
        self.fused_qkv_a_proj_with_mqa = ReplicatedLinear(
            arch.hidden_size,
            arch.q_lora_rank + sum(self.kv_dims),
            prefix=add_prefix("fused_qkv_a_proj_with_mqa", prefix),
            **kwargs,
        )
        self.q_a_layernorm = RMSNorm(arch.q_lora_rank, eps=arch.rms_norm_eps)
        self.kv_a_layernorm = RMSNorm(arch.kv_lora_rank, eps=arch.rms_norm_eps)
        self.q_b_proj = ColumnParallelLinear(
            arch.q_lora_rank,
            arch.num_heads * arch.qk_head_dim,
            prefix=add_prefix("q_b_proj", prefix),
            **kwargs,
            **tp,
        )
        self.kv_b_proj = ColumnParallelLinear(
            arch.kv_lora_rank,
            arch.num_heads * (arch.qk_nope_head_dim + arch.v_head_dim),
            prefix=add_prefix("kv_b_proj", prefix),
            **kwargs,
            **tp,
        )
        self.o_proj = RowParallelLinear(
            arch.num_heads * arch.v_head_dim,
            arch.hidden_size,
            reduce_results=False,  # the layer communicator reduces, together with the residual and the norm
            prefix=add_prefix("o_proj", prefix),
            **kwargs,
            **tp,
        )

    def _build_attention(self, arch: Glm52Arch, quant_config: QuantizationConfig | None, prefix: str) -> None:
        scaling = arch.qk_head_dim**-0.5
        kwargs = {"layer_id": self.layer_id, "quant_config": quant_config}
        self.attn_mqa = RadixAttention(
            self.num_local_heads,
            sum(self.kv_dims),
            scaling,
            num_kv_heads=1,
            v_head_dim=arch.kv_lora_rank,
            prefix=add_prefix("attn_mqa", prefix),
            **kwargs,
        )
        self.attn_mha = RadixAttention(
            self.num_local_heads,
            arch.qk_head_dim,
            scaling,
            num_kv_heads=self.num_local_heads,
            v_head_dim=arch.v_head_dim,
            prefix=add_prefix("attn_mha", prefix),
            **kwargs,
        )

    def prepare_qkv_latent(self, hidden_states: torch.Tensor, forward_batch: ForwardBatch) -> torch.Tensor:
        """[num_tokens, hidden] -> [num_tokens, q_lora + kv_lora + rope]; called by the layer communicator."""
        return self.fused_qkv_a_proj_with_mqa(hidden_states)[0]

    def absorb_kv_b(self) -> None:
        """Split `kv_b_proj` into `w_kc` [heads, nope, kv_lora] and `w_vc` [heads, kv_lora, v]; call after loading."""
        weight = self.kv_b_proj.weight
        if weight.dtype == torch.float8_e4m3fn:
            weight = dequantize_fp8_block(weight, self.kv_b_proj.weight_scale_inv, torch.get_default_dtype())
        per_head = weight.unflatten(0, (self.num_local_heads, -1))
        w_kc, w_vc = per_head.split([self.arch.qk_nope_head_dim, self.arch.v_head_dim], dim=1)
        self.w_kc = _assign(self.w_kc, w_kc.transpose(1, 2).contiguous().transpose(1, 2))
        self.w_vc = _assign(self.w_vc, w_vc.contiguous().transpose(1, 2))

    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        selection: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend, and pass on the selection that was used.

        Args:
            positions: [num_tokens] int64.
            hidden_states: [num_tokens, hidden], normed.
            selection: what the last layer with an indexer selected, as the attention backend encodes it.

        Returns:
            The output [num_tokens, hidden], still to be summed over attention TP ranks, and the selection (None after
            a dense prefill, which needs none).
        """
        if hidden_states.shape[0] == 0:
            return hidden_states, selection
        latent = get_attn_tp_context().fetch_qkv_latent()
        if fused_decode.is_fused(forward_batch, len(latent)):
            q_latent = fused_decode.norm_and_store(self, latent, positions, forward_batch)
            q, selection = self._query_and_selection(positions, hidden_states, forward_batch, q_latent, selection)
            out = fused_decode.values(self, fused_decode.attend(self, q, positions, selection))
            return self.o_proj(out)[0], selection
        q_latent, kv_latent, k_pe = latent.split([self.arch.q_lora_rank, *self.kv_dims], dim=-1)
        if _prefers_dense():
            out = dense_prefill(self, positions, hidden_states, forward_batch, q_latent, kv_latent, k_pe)
            selection = None
        else:
            q_latent, kv_latent = self._norm_latents(q_latent, kv_latent)
            q, selection = self._query_and_selection(positions, hidden_states, forward_batch, q_latent, selection)
            out = self._attend_selected(
                positions, forward_batch, q, kv_latent.unsqueeze(1), k_pe.unsqueeze(1), selection
            )
        return self.o_proj(out)[0], selection

    def _captures_two_streams(self) -> bool:
        return self.alt_stream is not None and get_is_capture_mode()

    def _norm_latents(self, q: torch.Tensor, kv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._captures_two_streams():
            return self.q_a_layernorm(q), self.kv_a_layernorm(kv)
        main = torch.cuda.current_stream()
        self.alt_stream.wait_stream(main)
        q = self.q_a_layernorm(q)
        with torch.cuda.stream(self.alt_stream):
            kv = self.kv_a_layernorm(kv)
        main.wait_stream(self.alt_stream)
        return q, kv

    def _query_and_selection(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        q_latent: torch.Tensor,
        selection: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Heads' queries [num_tokens, heads, nope + rope] and this layer's selection; side by side in a CUDA graph."""
        overlap = self.indexer is not None and self._captures_two_streams()
        overlap = overlap and forward_batch.forward_mode.is_decode_or_idle()
        if overlap:
            main = torch.cuda.current_stream()
            self.alt_stream.wait_stream(main)
            with torch.cuda.stream(self.alt_stream):
                q = self._heads(q_latent)
        else:
            q = self._heads(q_latent)
        if self.indexer is not None:
            selection = self._select(positions, hidden_states, forward_batch, q_latent)
        if overlap:
            main.wait_stream(self.alt_stream)
        assert selection is not None, f"layer {self.layer_id} has no indexer and no earlier layer's selection"
        return q, selection

    def _select(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        q_latent: torch.Tensor,
    ) -> torch.Tensor:
        """What the indexer selects, [num_tokens, index_topk]; its keys of these tokens are in the pool afterwards."""
        return self.indexer(
            x=hidden_states,
            q_lora=q_latent,
            positions=positions,
            forward_batch=forward_batch,
            layer_id=self.layer_id,
        )

    def _heads(self, q_latent: torch.Tensor) -> torch.Tensor:
        return self.q_b_proj(q_latent)[0].view(-1, self.num_local_heads, self.arch.qk_head_dim)

    def _attend_selected(
        self,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        q: torch.Tensor,
        kv_latent: torch.Tensor,
        k_pe: torch.Tensor,
        selection: torch.Tensor,
    ) -> torch.Tensor:
        q_nope, q_pe = q.split(self.q_dims, dim=-1)
        q_absorbed = torch.bmm(q_nope.transpose(0, 1), self.w_kc).transpose(0, 1)
        q_pe, k_pe = self.rotary_emb(positions, q_pe, k_pe)
        attended = self.attn_mqa(
            q_absorbed, kv_latent, kv_latent, forward_batch, q_rope=q_pe, k_rope=k_pe, topk_indices=selection
        ).view(-1, self.num_local_heads, self.arch.kv_lora_rank)
        return self._values(attended)

    def _values(self, attended: torch.Tensor) -> torch.Tensor:
        """[num_tokens, heads, kv_lora] -> [num_tokens, heads * v]."""
        if is_in_piecewise_cuda_graph():  # dynamo traces this and refuses an `out` that is not contiguous
            return torch.bmm(attended.transpose(0, 1), self.w_vc).transpose(0, 1).flatten(1)
        out = attended.new_empty(attended.shape[0], self.num_local_heads, self.arch.v_head_dim)
        torch.bmm(attended.transpose(0, 1), self.w_vc, out=out.transpose(0, 1))
        return out.flatten(1)


def _prefers_dense() -> bool:
    """Whether the backend chose dense attention for this batch; the CPU engine's has no such choice."""
    return not is_in_piecewise_cuda_graph() and getattr(get_attn_backend(), "use_mha", False)


def _assign(current: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    """Keep the storage of a tensor that a CUDA graph may already read, when weights are loaded again."""
    if current is None:
        return new
    return current.copy_(new)

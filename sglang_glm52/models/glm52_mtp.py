"""The MTP layer as a draft model for EAGLE speculation: from a token and a hidden state to the token after the next.

    x = eh_proj([enorm(embedding of token t + 1), hnorm(hidden state of row t)])
    logits = lm_head(shared_head.norm(decoder layer(x)))

The hidden state is the target's, after its final norm; in the later steps of a round the draft model's own, after
`shared_head.norm`. The decoder layer is a mixture of experts with an indexer and a KV cache of its own. Embedding and
head are the target's tensors.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sglang.srt.distributed import get_pp_group
from sglang.srt.layers.communicator import get_attn_tp_context
from sglang.srt.layers.layernorm import RMSNorm
from sglang.srt.layers.linear import ReplicatedLinear
from sglang.srt.layers.logits_processor import LogitsProcessor, LogitsProcessorOutput
from sglang.srt.layers.quantization.base_config import QuantizationConfig
from sglang.srt.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
    get_embedding_tp_kwargs,
)
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.forward_context import get_attn_backend, get_req_to_token_pool
from sglang.srt.server_args import get_global_server_args
from sglang.srt.utils import add_prefix, is_cuda
from torch import nn
from transformers import PretrainedConfig

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.env import settings
from sglang_glm52.host.guard import require_host
from sglang_glm52.models.attention import Glm52Attention
from sglang_glm52.models.config import read_arch
from sglang_glm52.models.glm52 import Glm52DecoderLayer
from sglang_glm52.models.index_share import DraftSelections, shares_selection
from sglang_glm52.models.loading import load_checkpoint
from sglang_glm52.models.support import check_supported
from sglang_glm52.models.weights import mtp_part
from sglang_glm52.quant.config import quant_config_for


class Glm52DraftAttention(Glm52Attention):
    """Attention of the MTP layer; `selections` is set where the steps of a round share one."""

    selections: DraftSelections | None = None

    def _select(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        q_latent: torch.Tensor,
    ) -> torch.Tensor:
        def own() -> torch.Tensor:
            return super(Glm52DraftAttention, self)._select(positions, hidden_states, forward_batch, q_latent)

        if self.selections is None:
            return own()
        if not forward_batch.forward_mode.is_decode():
            return self.selections.extend(own())
        return self.selections.step(
            get_attn_backend().speculative_step_id,
            own,
            forward_batch.req_pool_indices,
            forward_batch.seq_lens,
            get_req_to_token_pool().req_to_token.shape[0],
        )


class Glm52MtpLayer(Glm52DecoderLayer):
    """The decoder layer and what stands before and after it."""

    def __init__(
        self,
        arch: Glm52Arch,
        quant_config: QuantizationConfig | None,
        prefix: str,
        alt_stream: torch.cuda.Stream | None,
    ) -> None:
        super().__init__(arch.mtp_stack, 0, quant_config, prefix, alt_stream, Glm52DraftAttention)
        self.enorm = RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)
        self.hnorm = RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)
        self.eh_proj = ReplicatedLinear(2 * arch.hidden_size, arch.hidden_size, bias=False)
        self.shared_head = nn.ModuleDict({"norm": RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)})

    def forward(
        self,
        positions: torch.Tensor,
        embeddings: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
    ) -> torch.Tensor:
        """Embeddings of the next tokens and hidden states, both [num_tokens, hidden], to the next hidden states."""
        x = embeddings
        if embeddings.shape[0] > 0:
            x, _ = self.eh_proj(torch.cat([self.enorm(embeddings), self.hnorm(hidden_states)], dim=-1))
        x, residual, _ = super().forward(positions, x, forward_batch, None, None)
        return x if forward_batch.forward_mode.is_idle() else self.shared_head["norm"](x, residual)[0]


class GlmMoeDsaForCausalLMNextN(nn.Module):
    """The draft model; `host/hooks/draft_model.py` gives it to the host.

    Parameters are named as in the checkpoint: `model.layers.{num_layers}.*`.

    Raises:
        HostMismatchError, ConfigError: as the target model.
    """

    def __init__(
        self, config: PretrainedConfig, quant_config: QuantizationConfig | None = None, prefix: str = ""
    ) -> None:
        super().__init__()
        require_host()
        self.config, self.arch = config, read_arch(config)
        check_supported(self.arch, get_global_server_args(), get_pp_group())
        self.quant_config = quant_config_for(self.arch.quant, quant_config)
        self.shares_selection = shares_selection(settings().mtp_index_share, self.arch.index_share_for_mtp)
        self.selections = DraftSelections() if self.shares_selection else None
        self.model, self.lm_head = nn.Module(), self._without_weight(self._make_head(prefix))
        self.model.embed_tokens = self._without_weight(
            VocabParallelEmbedding(self.arch.vocab_size, self.arch.hidden_size, **get_embedding_tp_kwargs())
        )
        layer = str(self.arch.num_layers)
        alt_stream = torch.cuda.Stream() if is_cuda() else None
        mtp = Glm52MtpLayer(self.arch, self.quant_config, add_prefix(f"model.layers.{layer}", prefix), alt_stream)
        mtp.self_attn.selections = self.selections
        self.model.layers = nn.ModuleDict({layer: mtp})
        self.logits_processor = LogitsProcessor(config)
        self.is_loaded = False
        get_attn_tp_context().init_context(self.arch.q_lora_rank, True)

    def _make_head(self, prefix: str) -> ParallelLMHead:
        use_attn_tp_group = get_global_server_args().enable_dp_lm_head
        return ParallelLMHead(
            self.arch.vocab_size,
            self.arch.hidden_size,
            prefix=add_prefix("lm_head", prefix),
            use_attn_tp_group=use_attn_tp_group,
        )

    @staticmethod
    def _without_weight(module: nn.Module) -> nn.Module:
        """Free what `set_embed_and_head` replaces: 3.8 GB over all ranks that would lie there twice."""
        module.weight = nn.Parameter(module.weight.new_empty(0), requires_grad=False)
        return module

    @property
    def mtp(self) -> Glm52MtpLayer:
        return self.model.layers[str(self.arch.num_layers)]

    @torch.no_grad()
    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        input_embeds: torch.Tensor | None = None,
    ) -> LogitsProcessorOutput:
        """Logits for the token after `input_ids` at each row, given `forward_batch.spec_info.hidden_states`.

        `input_embeds` are of the target's tokens, one place before these, and not used: of a request that came with
        them instead of ids the first drafts are worse.
        """
        with get_attn_tp_context().maybe_input_scattered(forward_batch):
            hidden_states = self.mtp(
                positions,
                self.model.embed_tokens(input_ids),
                forward_batch.spec_info.hidden_states,
                forward_batch,
            )
        return self.logits_processor(input_ids, hidden_states, self.lm_head, forward_batch)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take the MTP layer out of the whole checkpoint; as the target model's."""
        load_checkpoint(self, self.arch, mtp_part(self.arch), weights, complete=not self.is_loaded)
        self.is_loaded = True
        self.post_load_weights()

    def post_load_weights(self) -> None:
        """Derive the absorbed projections."""
        self.mtp.self_attn.absorb_kv_b()

    def set_embed_and_head(self, embed: torch.Tensor, head: torch.Tensor) -> None:
        """Use the target's embedding and output head."""
        self.model.embed_tokens.weight, self.lm_head.weight = embed, head


EntryClass = GlmMoeDsaForCausalLMNextN

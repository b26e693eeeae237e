"""GLM-5.2: embeddings, decoder layers with sparse latent attention and mixture of experts, logits.

Registered over the host's class of the same name. Layers whose indexer type is "full" select positions; the layers
after one, up to the next, attend to the same selection (IndexShare).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sglang.srt.distributed import get_pp_group, get_world_group
from sglang.srt.layers.communicator import (
    LayerCommunicator,
    LayerScatterModes,
    enable_moe_dense_fully_dp,
    get_attn_tp_context,
)
from sglang.srt.layers.layernorm import RMSNorm
from sglang.srt.layers.logits_processor import LogitsProcessor, LogitsProcessorOutput
from sglang.srt.layers.quantization.base_config import QuantizationConfig
from sglang.srt.layers.utils import PPMissingLayer
from sglang.srt.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
    get_embedding_tp_kwargs,
)
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, PPProxyTensors
from sglang.srt.server_args import get_global_server_args
from sglang.srt.utils import add_prefix, is_cuda, make_layers
from torch import nn
from transformers import PretrainedConfig

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.host.guard import require_host
from sglang_glm52.models.attention import Glm52Attention
from sglang_glm52.models.config import read_arch
from sglang_glm52.models.loading import load_checkpoint
from sglang_glm52.models.moe import Glm52MLP, Glm52MoE
from sglang_glm52.models.same_on_ranks import check_same_on_ranks
from sglang_glm52.models.support import check_supported
from sglang_glm52.models.weights import stage_part
from sglang_glm52.quant.config import quant_config_for


class Glm52DecoderLayer(nn.Module):
    """Attention and feed-forward, each behind a norm; the communicator moves rows between parallel layouts."""

    def __init__(
        self,
        arch: Glm52Arch,
        layer_id: int,
        quant_config: QuantizationConfig | None,
        prefix: str,
        alt_stream: torch.cuda.Stream | None,
        attention_class: type[Glm52Attention] = Glm52Attention,
    ) -> None:
        super().__init__()
        self.self_attn = attention_class(
            arch,
            layer_id,
            quant_config,
            add_prefix("self_attn", prefix),
            alt_stream,
            has_indexer=arch.indexer_types[layer_id] == "full",
        )
        self.is_sparse = arch.is_moe_layer(layer_id)
        if self.is_sparse:
            self.mlp = Glm52MoE(arch, layer_id, quant_config, add_prefix("mlp", prefix), alt_stream)
        else:
            tp = {"tp_rank": 0, "tp_size": 1} if enable_moe_dense_fully_dp() else {}
            self.mlp = Glm52MLP(arch.hidden_size, arch.intermediate_size, quant_config, add_prefix("mlp", prefix), **tp)
        self.input_layernorm = RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps)
        self.communicator = LayerCommunicator(
            layer_scatter_modes=LayerScatterModes.init_new(
                layer_id=layer_id,
                num_layers=arch.num_layers,
                is_layer_sparse=self.is_sparse,
                is_previous_layer_sparse=arch.is_moe_layer(layer_id - 1),
                is_next_layer_sparse=arch.is_moe_layer(layer_id + 1),
            ),
            input_layernorm=self.input_layernorm,
            post_attention_layernorm=self.post_attention_layernorm,
            allow_reduce_scatter=True,
            is_last_layer=layer_id == arch.num_layers - 1,
            qkv_latent_func=self.self_attn.prepare_qkv_latent,
        )

    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        residual: torch.Tensor | None,
        selection: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """[num_tokens, hidden] and residual in, both and the selection for the next layer out."""
        hidden_states, residual = self.communicator.prepare_attn(hidden_states, residual, forward_batch)
        hidden_states, selection = self.self_attn(positions, hidden_states, forward_batch, selection)
        get_attn_tp_context().clear_attn_inputs()
        hidden_states, residual = self.communicator.prepare_mlp(hidden_states, residual, forward_batch)
        fuse_all_reduce = self.communicator.should_fuse_mlp_allreduce_with_next_layer(forward_batch)
        reduce_scatter = self.communicator.should_use_reduce_scatter(forward_batch)
        if self.is_sparse:
            hidden_states = self.mlp(
                hidden_states, should_allreduce_fusion=fuse_all_reduce, use_reduce_scatter=reduce_scatter
            )
        else:
            hidden_states = self.mlp(hidden_states, skip_all_reduce=fuse_all_reduce or reduce_scatter)
        if fuse_all_reduce:
            hidden_states._sglang_needs_allreduce_fusion = True
        else:
            hidden_states, residual = self.communicator.postprocess_layer(hidden_states, residual, forward_batch)
        return hidden_states, residual, selection


class Glm52Model(nn.Module):
    """The decoder stack of one pipeline stage."""

    def __init__(self, arch: Glm52Arch, quant_config: QuantizationConfig | None, prefix: str) -> None:
        super().__init__()
        self.pp_group = get_pp_group()
        is_first, is_last = self.pp_group.is_first_rank, self.pp_group.is_last_rank
        self.embed_tokens = (
            VocabParallelEmbedding(arch.vocab_size, arch.hidden_size, **get_embedding_tp_kwargs())
            if is_first
            else PPMissingLayer()
        )
        self.alt_stream = torch.cuda.Stream() if is_cuda() else None
        self.layers, self.start_layer, self.end_layer = make_layers(
            arch.num_layers,
            lambda idx, prefix: Glm52DecoderLayer(arch, idx, quant_config, prefix, self.alt_stream),
            pp_rank=self.pp_group.rank_in_group,
            pp_size=self.pp_group.world_size,
            prefix=add_prefix("layers", prefix),
        )
        self.norm = RMSNorm(arch.hidden_size, eps=arch.rms_norm_eps) if is_last else PPMissingLayer(return_tuple=True)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        input_embeds: torch.Tensor | None = None,
        pp_proxy_tensors: PPProxyTensors | None = None,
    ) -> torch.Tensor | PPProxyTensors:
        """Token ids or embeddings (first stage), or the previous stage's tensors, to final or passed-on states."""
        if self.pp_group.is_first_rank:
            hidden_states = self.embed_tokens(input_ids) if input_embeds is None else input_embeds
            residual = None
        else:
            hidden_states, residual = pp_proxy_tensors["hidden_states"], pp_proxy_tensors["residual"]
        selection = None  # a stage starts with a full layer: check_supported() sees to it
        for i in range(self.start_layer, self.end_layer):  # a slice would build a ModuleList in every step
            layer = self.layers[i]
            hidden_states, residual, selection = layer(positions, hidden_states, forward_batch, residual, selection)
        if not self.pp_group.is_last_rank:
            return PPProxyTensors({"hidden_states": hidden_states, "residual": residual})
        if forward_batch.forward_mode.is_idle():
            return hidden_states
        return self.norm(hidden_states, residual)[0]


class GlmMoeDsaForCausalLM(nn.Module):
    """The class SGLang looks up for `architectures: ["GlmMoeDsaForCausalLM"]`.

    Raises:
        HostMismatchError: the host is untested, or a hook did not take in this process.
        ConfigError: a configuration or server option that this model does not support; names the remedy.
    """

    def __init__(
        self, config: PretrainedConfig, quant_config: QuantizationConfig | None = None, prefix: str = ""
    ) -> None:
        super().__init__()
        require_host()
        self.config = config
        self.arch = read_arch(config)
        self.quant_config = quant_config = quant_config_for(self.arch.quant, quant_config)
        self.pp_group = get_pp_group()
        check_same_on_ranks(get_world_group().cpu_group)
        check_supported(self.arch, get_global_server_args(), self.pp_group)
        self.model = Glm52Model(self.arch, quant_config, add_prefix("model", prefix))
        self.lm_head = (
            ParallelLMHead(
                self.arch.vocab_size,
                self.arch.hidden_size,
                prefix=add_prefix("lm_head", prefix),
                use_attn_tp_group=get_global_server_args().enable_dp_lm_head,
            )
            if self.pp_group.is_last_rank
            else PPMissingLayer()
        )
        self.logits_processor = LogitsProcessor(config)
        self.is_loaded = False
        get_attn_tp_context().init_context(self.arch.q_lora_rank, True)

    @torch.no_grad()
    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        input_embeds: torch.Tensor | None = None,
        pp_proxy_tensors: PPProxyTensors | None = None,
    ) -> LogitsProcessorOutput | PPProxyTensors:
        """Logits of the positions the batch asks for (last stage), or the tensors for the next stage."""
        with get_attn_tp_context().maybe_input_scattered(forward_batch):
            hidden_states = self.model(input_ids, positions, forward_batch, input_embeds, pp_proxy_tensors)
        if not self.pp_group.is_last_rank:
            return hidden_states
        return self.logits_processor(input_ids, hidden_states, self.lm_head, forward_batch)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Stream a checkpoint into this rank's parameters; CheckpointError lists every tensor that is wrong.

        The first call must bring all of them, a later one (the host's weight updates) may bring some.
        """
        first, last = self.pp_group.is_first_rank, self.pp_group.is_last_rank
        part = stage_part(self.arch, range(self.start_layer, self.end_layer), first_stage=first, last_stage=last)
        load_checkpoint(self, self.arch, part, weights, complete=not self.is_loaded)
        self.is_loaded = True
        self.post_load_weights()

    def post_load_weights(self) -> None:
        """Derive the absorbed projections; the host calls this itself where it fills weights without loading."""
        for layer in self.model.layers[self.start_layer : self.end_layer]:
            layer.self_attn.absorb_kv_b()

    @property
    def start_layer(self) -> int:
        return self.model.start_layer

    @property
    def end_layer(self) -> int:
        return self.model.end_layer

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_embed_and_head(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The tensors a draft model shares."""
        return self.model.embed_tokens.weight, self.lm_head.weight


EntryClass = GlmMoeDsaForCausalLM

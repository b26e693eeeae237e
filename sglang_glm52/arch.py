"""The numbers of a GLM-5.2 model, derived from config.json and checked. The only reader of that file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sglang_glm52 import arch_fields
from sglang_glm52.arch_fields import count, positive
from sglang_glm52.arch_index_share import read_indexer_types
from sglang_glm52.arch_quant import QuantSection
from sglang_glm52.errors import CheckpointError, ConfigError

ARCHITECTURE = "GlmMoeDsaForCausalLM"
MODEL_TYPE = "glm_moe_dsa"


def is_glm52(config: Any) -> bool:
    """Whether a configuration object is GLM-5.2's; the host gives its draft model another `architectures`."""
    return config.model_type == MODEL_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Glm52Arch:
    """One model's dimensions. Counts are `num_*`, the rest keeps the names of the paper and of config.json."""

    vocab_size: int
    hidden_size: int
    num_layers: int  # without the MTP layer
    num_dense_layers: int
    intermediate_size: int
    moe_intermediate_size: int
    num_experts: int
    num_experts_per_token: int
    num_shared_experts: int
    num_expert_groups: int
    topk_group: int
    routed_scaling_factor: float
    norm_topk_prob: bool
    num_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_interleave: bool
    max_positions: int
    index_num_heads: int
    index_head_dim: int
    index_topk: int
    indexer_rope_interleave: bool
    indexer_types: tuple[str, ...]  # "full" or "shared", one a layer
    num_mtp_layers: int
    index_share_for_mtp: bool
    eos_token_ids: tuple[int, ...]
    quant: QuantSection | None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Glm52Arch:
        """Read the contents of a config.json, or the `to_dict()` of a configuration object made from one.

        Raises:
            ConfigError: a field is missing, contradicts another, or has a value this model does not implement.
        """
        try:
            return _read(config)
        except KeyError as error:
            raise ConfigError(f"config.json has no field {error}; is it a GLM-5.2 checkpoint's?") from error

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Glm52Arch:
        """Read `path`/config.json; CheckpointError if it is not there or no JSON object."""
        file = Path(path) / "config.json"
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CheckpointError(f"{file} does not exist; name the folder that holds the checkpoint") from error
        except ValueError as error:  # not UTF-8, or not JSON
            raise CheckpointError(f"{file} is not JSON ({error}); download it again") from error
        if not isinstance(config, dict):
            raise CheckpointError(f"{file} holds a JSON {type(config).__name__}, not an object; download it again")
        return cls.from_config(config)

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def has_int4_experts(self) -> bool:
        return self.quant is not None and self.quant.method == "w4afp8"

    @property
    def mtp_stack(self) -> Glm52Arch:
        """The draft model as a stack of one layer: a mixture of experts with an indexer of its own."""
        return replace(self, num_layers=1, num_dense_layers=0, indexer_types=("full",), num_mtp_layers=0)

    def is_moe_layer(self, layer: int) -> bool:
        """The first layers are dense, the others and the MTP layer are mixtures of experts."""
        return layer >= self.num_dense_layers


def _read(config: Mapping[str, Any]) -> Glm52Arch:
    arch_fields.refuse_unsupported(config)
    num_layers, num_experts = count(config, "num_hidden_layers"), count(config, "n_routed_experts")
    return Glm52Arch(
        vocab_size=count(config, "vocab_size"),
        hidden_size=count(config, "hidden_size"),
        num_layers=num_layers,
        num_dense_layers=arch_fields.num_dense_layers(config, num_layers),
        intermediate_size=count(config, "intermediate_size"),
        moe_intermediate_size=count(config, "moe_intermediate_size"),
        num_experts=num_experts,
        num_experts_per_token=arch_fields.num_experts_per_token(config, num_experts),
        num_shared_experts=count(config, "n_shared_experts"),
        num_expert_groups=1,
        topk_group=1,
        routed_scaling_factor=positive(config, "routed_scaling_factor"),
        norm_topk_prob=config["norm_topk_prob"],
        num_heads=count(config, "num_attention_heads"),
        q_lora_rank=count(config, "q_lora_rank"),
        kv_lora_rank=count(config, "kv_lora_rank"),
        qk_nope_head_dim=count(config, "qk_nope_head_dim"),
        qk_rope_head_dim=arch_fields.rope_dim(config),
        v_head_dim=count(config, "v_head_dim"),
        rms_norm_eps=positive(config, "rms_norm_eps"),
        rope_theta=arch_fields.rope_theta(config),
        rope_interleave=config.get("rope_interleave", True),
        max_positions=count(config, "max_position_embeddings"),
        index_num_heads=count(config, "index_n_heads"),
        index_head_dim=count(config, "index_head_dim"),
        index_topk=count(config, "index_topk"),
        indexer_rope_interleave=config.get("indexer_rope_interleave", True),
        indexer_types=read_indexer_types(config, num_layers),
        num_mtp_layers=arch_fields.num_mtp_layers(config),
        index_share_for_mtp=bool(config.get("index_share_for_mtp_iteration", False)),
        eos_token_ids=arch_fields.eos_token_ids(config),
        quant=QuantSection.from_config(config.get("quantization_config")),
    )

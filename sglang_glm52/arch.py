"""The numbers of a GLM-5.2 model, derived from config.json and checked. The only reader of that file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.arch_index_share import read_indexer_types
from sglang_glm52.arch_quant import QuantSection
from sglang_glm52.errors import CheckpointError, ConfigError

ARCHITECTURE = "GlmMoeDsaForCausalLM"

# What the model code takes for granted: field -> the only value it implements. A field that is absent has that value.
_FIXED = {
    "model_type": "glm_moe_dsa",
    "hidden_act": "silu",
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "n_group": 1,
    "topk_group": 1,
    "moe_layer_freq": 1,
    "attention_bias": False,
    "tie_word_embeddings": False,
}


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
        """Read the contents of a config.json.

        Raises:
            ConfigError: a field is missing, contradicts another, or has a value this model does not implement.
        """
        try:
            return _read(cls, config)
        except KeyError as error:
            raise ConfigError(f"config.json has no field {error}; is it a GLM-5.2 checkpoint's?") from error

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Glm52Arch:
        """Read `path`/config.json; CheckpointError if it is not there or not JSON."""
        file = Path(path) / "config.json"
        try:
            config = json.loads(file.read_text())
        except FileNotFoundError as error:
            raise CheckpointError(f"{file} does not exist; name the folder that holds the checkpoint") from error
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{file} is not JSON ({error}); download it again") from error
        return cls.from_config(config)

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def is_moe_layer(self, layer: int) -> bool:
        """The first layers are dense, the others and the MTP layer are mixtures of experts."""
        return layer >= self.num_dense_layers


def _read(cls: type[Glm52Arch], config: Mapping[str, Any]) -> Glm52Arch:
    for field, value in _FIXED.items():
        if config.get(field, value) != value:
            raise ConfigError(f"config.json has {field} = {config[field]!r}; only {value!r} is supported")
    num_layers = config["num_hidden_layers"]
    # `head_dim` is not read: the published file sets it to 192, and libraries that take it for the rotary dimension
    # overwrite qk_rope_head_dim with it.
    return cls(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_layers=num_layers,
        num_dense_layers=_num_dense_layers(config),
        intermediate_size=config["intermediate_size"],
        moe_intermediate_size=config["moe_intermediate_size"],
        num_experts=config["n_routed_experts"],
        num_experts_per_token=config["num_experts_per_tok"],
        num_shared_experts=config["n_shared_experts"],
        num_expert_groups=1,
        topk_group=1,
        routed_scaling_factor=float(config["routed_scaling_factor"]),
        norm_topk_prob=config["norm_topk_prob"],
        num_heads=config["num_attention_heads"],
        q_lora_rank=config["q_lora_rank"],
        kv_lora_rank=config["kv_lora_rank"],
        qk_nope_head_dim=config["qk_nope_head_dim"],
        qk_rope_head_dim=_rope_dim(config),
        v_head_dim=config["v_head_dim"],
        rms_norm_eps=float(config["rms_norm_eps"]),
        rope_theta=_rope_theta(config),
        rope_interleave=config.get("rope_interleave", True),
        max_positions=config["max_position_embeddings"],
        index_num_heads=config["index_n_heads"],
        index_head_dim=config["index_head_dim"],
        index_topk=config["index_topk"],
        indexer_rope_interleave=config.get("indexer_rope_interleave", True),
        indexer_types=read_indexer_types(config, num_layers),
        num_mtp_layers=config.get("num_nextn_predict_layers", 0) or 0,
        index_share_for_mtp=bool(config.get("index_share_for_mtp_iteration", False)),
        eos_token_ids=_eos_token_ids(config),
        quant=QuantSection.from_config(config.get("quantization_config")),
    )


def _num_dense_layers(config: Mapping[str, Any]) -> int:
    types = config.get("mlp_layer_types")
    if types is None:
        return config["first_k_dense_replace"]
    count = types.index("sparse") if "sparse" in types else len(types)
    if "dense" in types[count:]:
        raise ConfigError("mlp_layer_types has a dense layer after a sparse one; dense layers must come first")
    if config.get("first_k_dense_replace", count) != count:
        raise ConfigError(
            f"first_k_dense_replace = {config['first_k_dense_replace']} contradicts mlp_layer_types, which starts with "
            f"{count} dense layers; correct one of them"
        )
    return count


def _rope_dim(config: Mapping[str, Any]) -> int:
    dim, width = config["qk_rope_head_dim"], config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    if config.get("qk_head_dim", width) != width:
        raise ConfigError(
            f"qk_head_dim = {config['qk_head_dim']} is not qk_nope_head_dim + qk_rope_head_dim = {width}; a library has "
            "overwritten one of them (with head_dim, perhaps): take config.json from the published checkpoint"
        )
    if dim > config["index_head_dim"]:
        raise ConfigError(f"qk_rope_head_dim = {dim} exceeds index_head_dim = {config['index_head_dim']}")
    return dim


def _rope_theta(config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConfigError(f"rope_type is {kind!r}; only 'default' is supported: GLM-5.2's window needs no scaling")
    return float(config["rope_theta"] if "rope_theta" in config else rope["rope_theta"])


def _eos_token_ids(config: Mapping[str, Any]) -> tuple[int, ...]:
    ids = config["eos_token_id"]
    return (ids,) if isinstance(ids, int) else tuple(ids)

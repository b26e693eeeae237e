"""config.json of the small models, in the published form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang_glm52.arch import ARCHITECTURE
from sglang_glm52.arch_index_share import read_indexer_types
from sglang_glm52.errors import ConfigError
from sglang_glm52.tiny.tokenizer import STOP_TOKENS, VOCAB_SIZE, token_id

_COMMON: dict[str, Any] = {
    "architectures": [ARCHITECTURE],
    "model_type": "glm_moe_dsa",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "eos_token_id": [token_id(name) for name in STOP_TOKENS],
    "first_k_dense_replace": 2,
    "head_dim": 192,  # as published, a trap: the rotary dimension is qk_rope_head_dim
    "hidden_act": "silu",
    "index_head_dim": 128,
    "index_share_for_mtp_iteration": True,
    "index_skip_topk_offset": 3,
    "index_topk_freq": 4,
    "indexer_rope_interleave": True,
    "initializer_range": 0.02,
    "moe_layer_freq": 1,
    "moe_router_dtype": "float32",
    "n_group": 1,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_hidden_layers": 8,
    "num_nextn_predict_layers": 1,
    "pad_token_id": token_id("<|endoftext|>"),
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-5,
    "rope_interleave": True,
    "rope_parameters": {"rope_theta": 8_000_000, "rope_type": "default"},
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "use_cache": True,
    "vocab_size": VOCAB_SIZE,
}

PRESETS: dict[str, dict[str, Any]] = {
    # As small as TP 2 with blocks and groups of 128 allows; prompts longer than 64 tokens are sparse.
    "cpu": {
        "hidden_size": 128,
        "index_n_heads": 16,  # with few heads many scores are exactly 0, and ties have no right order
        "index_topk": 64,
        "intermediate_size": 256,
        "kv_lora_rank": 64,
        "max_position_embeddings": 65536,
        "moe_intermediate_size": 256,
        "n_routed_experts": 8,
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 4,
        "q_lora_rank": 128,
        "qk_nope_head_dim": 64,
        "v_head_dim": 64,
    },
    # The latent, head and selection sizes that the CUDA kernels are compiled for.
    "gpu": {
        "hidden_size": 1024,
        "index_n_heads": 32,
        "index_topk": 2048,
        "intermediate_size": 2048,
        "kv_lora_rank": 512,
        "max_position_embeddings": 65536,
        "moe_intermediate_size": 256,
        "n_routed_experts": 64,  # with 32 the host routes by another kernel than it does with 256
        "num_attention_heads": 16,
        "num_experts_per_tok": 8,
        "num_key_value_heads": 16,
        "q_lora_rank": 512,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
    },
}

# Written from other fields unless given.
_DERIVED = {"indexer_types", "mlp_layer_types", "qk_head_dim"}
# Fields that a checkpoint of this model may have although the presets leave them out.
_OPTIONAL = {"bos_token_id", "index_topk_pattern", "rope_theta"}


def make_config(preset: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's config.json with `overrides`; an override of None takes a field out.

    `indexer_types` or `index_topk_pattern` in `overrides` replace the preset's formula.

    Raises:
        ConfigError: no such preset, or no such field.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    config = _COMMON | PRESETS[preset]
    known = config.keys() | _DERIVED | _OPTIONAL
    unknown = sorted(overrides.keys() - known)
    if unknown:
        raise ConfigError(f"config.json has no field {', '.join(unknown)}; fields are {', '.join(sorted(known))}")
    if overrides.get("indexer_types") or overrides.get("index_topk_pattern"):
        config |= {"index_topk_freq": None, "index_skip_topk_offset": None}
    config |= overrides
    config = _derived(config) | config
    return {key: config[key] for key in sorted(config) if config[key] is not None}


def _derived(config: Mapping[str, Any]) -> dict[str, Any]:
    num_layers, num_dense = config["num_hidden_layers"], config["first_k_dense_replace"]
    return {
        "indexer_types": list(read_indexer_types(config, num_layers)),
        "mlp_layer_types": ["dense"] * num_dense + ["sparse"] * (num_layers - num_dense),
        "qk_head_dim": config["qk_nope_head_dim"] + config["qk_rope_head_dim"],
    }

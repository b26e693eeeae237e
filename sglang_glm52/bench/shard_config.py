"""The config.json of a rank shard: GLM-5.2 with everything that tensor parallelism divides already divided.

Served with --tp 1 it does per step exactly the work of one rank of `TP` but for the all-reduces.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from sglang_glm52.errors import ConfigError

Format = Literal["fp8", "w4afp8"]

TP = 8
NUM_LAYERS = 78
MIN_LAYERS = 4  # three dense layers and one of experts
DIVIDED = ("num_attention_heads", "num_key_value_heads", "intermediate_size", "moe_intermediate_size", "vocab_size")

# zai-org/GLM-5.2's config.json; per-layer lists are added below. `head_dim` stands there although rope works on 64.
PUBLISHED: dict[str, Any] = {
    "architectures": ["GlmMoeDsaForCausalLM"],
    "model_type": "glm_moe_dsa",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "eos_token_id": [154820, 154827, 154829],
    "ep_size": 1,
    "first_k_dense_replace": 3,
    "head_dim": 192,
    "hidden_act": "silu",
    "hidden_size": 6144,
    "index_head_dim": 128,
    "index_n_heads": 32,
    "index_share_for_mtp_iteration": True,
    "index_skip_topk_offset": 3,
    "index_topk": 2048,
    "index_topk_freq": 4,
    "index_topk_pattern": None,
    "indexer_rope_interleave": True,
    "initializer_range": 0.02,
    "intermediate_size": 12288,
    "kv_lora_rank": 512,
    "max_position_embeddings": 1048576,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "moe_router_dtype": "float32",
    "n_group": 1,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 64,
    "num_experts_per_tok": 8,
    "num_hidden_layers": NUM_LAYERS,
    "num_key_value_heads": 64,
    "num_nextn_predict_layers": 1,
    "pad_token_id": 154820,
    "q_lora_rank": 2048,
    "qk_head_dim": 256,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-5,
    "rope_interleave": True,
    "rope_parameters": {"rope_theta": 8000000, "rope_type": "default"},
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "use_cache": True,
    "v_head_dim": 256,
    "vocab_size": 154880,
}

QUANTIZATION: dict[Format, dict[str, Any]] = {
    "fp8": {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["model.embed_tokens", "lm_head"],
    },
    "w4afp8": {"quant_method": "w4afp8"},
}


def rank_shard(fmt: Format, num_layers: int = NUM_LAYERS) -> dict[str, Any]:
    """config.json of one rank of TP8, cut to the first `num_layers` layers.

    Raises:
        ConfigError: `num_layers` is not from MIN_LAYERS to NUM_LAYERS.
    """
    if not MIN_LAYERS <= num_layers <= NUM_LAYERS:
        raise ConfigError(
            f"--layers {num_layers}: expected {MIN_LAYERS} (3 dense layers and one of experts) to {NUM_LAYERS}"
        )
    dense = PUBLISHED["first_k_dense_replace"]
    return {
        **PUBLISHED,
        **{field: PUBLISHED[field] // TP for field in DIVIDED},
        "num_hidden_layers": num_layers,
        "indexer_types": [indexer_type(layer) for layer in range(num_layers)],
        "mlp_layer_types": ["dense" if layer < dense else "sparse" for layer in range(num_layers)],
        "quantization_config": QUANTIZATION[fmt],
    }


def indexer_type(layer: int) -> Literal["full", "shared"]:
    """GLM-5.2's IndexShare: full at 0, 1, 2, 6, 10, ... 74."""
    since_offset = max(layer - PUBLISHED["index_skip_topk_offset"] + 1, 0)
    return "full" if since_offset % PUBLISHED["index_topk_freq"] == 0 else "shared"


def write_model(folder: Path, fmt: Format, num_layers: int) -> Path:
    """Write a checkpoint folder that holds a config and no weights, to be served with --load-format dummy."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(rank_shard(fmt, num_layers), indent=2))
    return folder

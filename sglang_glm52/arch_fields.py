"""Fields of config.json that need more than a look-up: each function reads one and checks it against the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang_glm52.errors import ConfigError

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


def refuse_unsupported(config: Mapping[str, Any]) -> None:
    """ConfigError for a variant of the architecture that the model does not implement."""
    for field, value in _FIXED.items():
        if config.get(field, value) != value:
            raise ConfigError(
                f"config.json has {field} = {config[field]!r}; only {value!r} is supported, as in the published "
                "checkpoints: take config.json from one"
            )


def count(config: Mapping[str, Any], field: str, least: int = 1) -> int:
    """An integer of at least `least`."""
    value = config[field]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"config.json has {field} = {value!r}; expected an integer of at least {least}: correct it")
    return value


def positive(config: Mapping[str, Any], field: str) -> float:
    """A number above 0."""
    value = config[field]
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ConfigError(f"config.json has {field} = {value!r}; expected a number above 0: correct it")
    return float(value)


def num_dense_layers(config: Mapping[str, Any], num_layers: int) -> int:
    """How many layers, from the first on, have no experts."""
    types = config.get("mlp_layer_types")
    if types is None:
        dense = count(config, "first_k_dense_replace", least=0)
    else:
        dense = list(types).index("sparse") if "sparse" in types else len(types)
        if list(types) != ["dense"] * dense + ["sparse"] * (num_layers - dense):
            raise ConfigError(
                f"mlp_layer_types is {list(types)}; expected 'dense' layers, then 'sparse' ones, {num_layers} together "
                "(num_hidden_layers)"
            )
        if config.get("first_k_dense_replace", dense) != dense:
            raise ConfigError(
                f"first_k_dense_replace = {config['first_k_dense_replace']} contradicts mlp_layer_types, which starts "
                f"with {dense} dense layers; correct one of them"
            )
    if dense > num_layers:
        raise ConfigError(
            f"first_k_dense_replace = {dense} exceeds num_hidden_layers = {num_layers}; correct one of them"
        )
    return dense


def num_experts_per_token(config: Mapping[str, Any], num_experts: int) -> int:
    """At most as many as there are experts."""
    value = count(config, "num_experts_per_tok")
    if value > num_experts:
        raise ConfigError(
            f"num_experts_per_tok = {value} exceeds n_routed_experts = {num_experts}; correct one of them"
        )
    return value


def num_mtp_layers(config: Mapping[str, Any]) -> int:
    """How many draft layers follow the model's own; 0 where the field is absent or null."""
    if config.get("num_nextn_predict_layers") is None:
        return 0
    return count(config, "num_nextn_predict_layers", least=0)


def rope_dim(config: Mapping[str, Any]) -> int:
    """`qk_rope_head_dim`, unless something has overwritten it.

    `head_dim` is not read: the published file sets it to 192, and a library that takes it for the rotary dimension
    overwrites qk_rope_head_dim with it.
    """
    dim, index_dim = count(config, "qk_rope_head_dim"), count(config, "index_head_dim")
    width = count(config, "qk_nope_head_dim") + dim
    if config.get("qk_head_dim", width) != width:
        raise ConfigError(
            f"qk_head_dim = {config['qk_head_dim']} is not qk_nope_head_dim + qk_rope_head_dim = {width}; a library "
            "has overwritten one of them (with head_dim, perhaps): take config.json from the published checkpoint"
        )
    if dim > index_dim or dim % 2:
        raise ConfigError(
            f"qk_rope_head_dim = {dim}; expected an even number of at most index_head_dim = {index_dim}: take "
            "config.json from the published checkpoint"
        )
    return dim


def rope_theta(config: Mapping[str, Any]) -> float:
    """From `rope_parameters` or, as older files have it, `rope_theta`; any scaling is refused."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConfigError(f"rope_type is {kind!r}; only 'default' is supported: GLM-5.2's window needs no scaling")
    stated = {positive(section, "rope_theta") for section in (config, rope) if "rope_theta" in section}
    if len(stated) > 1:
        raise ConfigError(
            f"rope_theta is {config['rope_theta']} and {rope['rope_theta']} in rope_parameters; remove one"
        )
    if not stated:
        raise KeyError("rope_theta")
    return stated.pop()


def eos_token_ids(config: Mapping[str, Any]) -> tuple[int, ...]:
    """One or several ids end a reply."""
    ids = config["eos_token_id"]
    return (ids,) if isinstance(ids, int) else tuple(ids)

"""Checkpoint tensor names, their shapes, and the parameter each one fills. Pure: no tensor is touched here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sglang_glm52.arch import Glm52Arch

SCALE_SUFFIX = "_scale_inv"  # of a quantised weight: `X.weight_scale_inv`
BLOCK = 128
_LAYER = re.compile(r"^model\.layers\.(\d+)\.")
_EXPERT = re.compile(r"\.mlp\.experts\.(\d+)\.(gate_proj|up_proj|down_proj)\.")
_EXPERT_SHARD = {"gate_proj": ("w13_", "w1"), "up_proj": ("w13_", "w3"), "down_proj": ("w2_", "w2")}
_MERGED = {"gate_proj": 0, "up_proj": 1}
_FUSED_A = ("q_a_proj", "kv_a_proj_with_mqa")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a checkpoint tensor goes: a parameter and, if it fills only part of one, which part."""

    param: str
    expert_id: int | None = None
    shard: int | str | None = None  # gate/up index, or the expert shard name
    fused_a: str | None = None  # q_a_proj or kv_a_proj_with_mqa inside fused_qkv_a_proj_with_mqa


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a checkpoint that one model class loads."""

    shapes: dict[str, tuple[int, ...]]  # name -> full (unsharded) shape of every weight; scales are not listed
    is_elsewhere: Callable[[str], bool]  # whether a name outside `shapes` belongs to another class or stage


def layer_of(name: str) -> int | None:
    """Index of the decoder layer that a tensor belongs to, None for embeddings, final norm and head."""
    match = _LAYER.match(name)
    return int(match.group(1)) if match else None


def is_routed_expert(name: str) -> bool:
    """Whether a tensor belongs to a routed expert, those of the MTP layer included."""
    return _EXPERT.search(name) is not None


def target_of(name: str) -> Target:
    """The parameter of the model that checkpoint tensor `name` fills."""
    expert = _EXPERT.search(name)
    if expert:
        prefix, shard = _EXPERT_SHARD[expert.group(2)]
        param = f"{name[: expert.start()]}.mlp.experts.{prefix}{name[expert.end() :]}"
        return Target(param, expert_id=int(expert.group(1)), shard=shard)
    for part, index in _MERGED.items():
        if f".{part}." in name:
            return Target(name.replace(part, "gate_up_proj"), shard=index)
    for part in _FUSED_A:
        if f".{part}." in name:
            return Target(name.replace(part, "fused_qkv_a_proj_with_mqa"), fused_a=part)
    return Target(name)


def scale_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the 128 x 128 block scales of an FP8 weight [out, in]."""
    return tuple(-(-dim // BLOCK) for dim in shape)


def expected_shapes(
    arch: Glm52Arch, layers: range, *, first_stage: bool, last_stage: bool
) -> dict[str, tuple[int, ...]]:
    """Name -> full (unsharded) shape of every weight the given decoder layers need; scales are not listed."""
    shapes = {}
    if first_stage:
        shapes["model.embed_tokens.weight"] = (arch.vocab_size, arch.hidden_size)
    if last_stage:
        shapes["model.norm.weight"] = (arch.hidden_size,)
        shapes["lm_head.weight"] = (arch.vocab_size, arch.hidden_size)
    for layer in layers:
        shapes.update(
            (f"model.layers.{layer}.{name}", shape)
            for name, shape in layer_shapes(arch, arch.indexer_types[layer] == "full", arch.is_moe_layer(layer))
        )
    return shapes


def stage_part(arch: Glm52Arch, layers: range, *, first_stage: bool, last_stage: bool) -> Part:
    """What a pipeline stage of the target model loads; the rest is other stages' and the MTP layer's."""

    def is_elsewhere(name: str) -> bool:
        layer = layer_of(name)
        if layer is not None:
            return layer not in layers and layer < arch.num_layers + arch.num_mtp_layers
        return (name == "model.embed_tokens.weight" and not first_stage) or (
            name in ("model.norm.weight", "lm_head.weight") and not last_stage
        )

    return Part(expected_shapes(arch, layers, first_stage=first_stage, last_stage=last_stage), is_elsewhere)


def mtp_part(arch: Glm52Arch) -> Part:
    """What the draft model loads: layer `num_layers`, without the embeddings and head that some checkpoints repeat."""
    prefix = f"model.layers.{arch.num_layers}."
    repeated = (f"{prefix}embed_tokens.weight", f"{prefix}shared_head.head.weight")
    shapes = {prefix + name: shape for name, shape in mtp_layer_shapes(arch)}
    return Part(shapes, lambda name: not name.startswith(prefix) or name in repeated)


def mtp_layer_shapes(arch: Glm52Arch) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name within the layer, shape) of the MTP layer's weights, in checkpoint order."""
    for norm in ("enorm", "hnorm", "shared_head.norm"):
        yield f"{norm}.weight", (arch.hidden_size,)
    yield "eh_proj.weight", (arch.hidden_size, 2 * arch.hidden_size)
    yield from layer_shapes(arch, has_indexer=True, is_moe=True)


def layer_shapes(arch: Glm52Arch, has_indexer: bool, is_moe: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name within the layer, shape) of one decoder layer's weights; the MTP layer's block is one too."""
    hidden, q_lora, kv_lora = arch.hidden_size, arch.q_lora_rank, arch.kv_lora_rank
    yield "input_layernorm.weight", (hidden,)
    yield "post_attention_layernorm.weight", (hidden,)
    yield "self_attn.q_a_proj.weight", (q_lora, hidden)
    yield "self_attn.q_a_layernorm.weight", (q_lora,)
    yield "self_attn.q_b_proj.weight", (arch.num_heads * arch.qk_head_dim, q_lora)
    yield "self_attn.kv_a_proj_with_mqa.weight", (kv_lora + arch.qk_rope_head_dim, hidden)
    yield "self_attn.kv_a_layernorm.weight", (kv_lora,)
    yield "self_attn.kv_b_proj.weight", (arch.num_heads * (arch.qk_nope_head_dim + arch.v_head_dim), kv_lora)
    yield "self_attn.o_proj.weight", (hidden, arch.num_heads * arch.v_head_dim)
    if has_indexer:
        yield "self_attn.indexer.wq_b.weight", (arch.index_num_heads * arch.index_head_dim, q_lora)
        yield "self_attn.indexer.wk.weight", (arch.index_head_dim, hidden)
        yield "self_attn.indexer.k_norm.weight", (arch.index_head_dim,)
        yield "self_attn.indexer.k_norm.bias", (arch.index_head_dim,)
        yield "self_attn.indexer.weights_proj.weight", (arch.index_num_heads, hidden)
    if not is_moe:
        yield from _mlp_shapes("mlp", hidden, arch.intermediate_size)
        return
    yield "mlp.gate.weight", (arch.num_experts, hidden)
    yield "mlp.gate.e_score_correction_bias", (arch.num_experts,)
    yield from _mlp_shapes("mlp.shared_experts", hidden, arch.moe_intermediate_size * arch.num_shared_experts)
    for expert in range(arch.num_experts):
        yield from _mlp_shapes(f"mlp.experts.{expert}", hidden, arch.moe_intermediate_size)


def _mlp_shapes(prefix: str, hidden: int, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}.gate_proj.weight", (inner, hidden)
    yield f"{prefix}.up_proj.weight", (inner, hidden)
    yield f"{prefix}.down_proj.weight", (hidden, inner)

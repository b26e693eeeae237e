"""Which tensors a checkpoint must hold, and what each fills."""

from __future__ import annotations

import pytest
from published_config import published

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.models.weights import Target, expected_shapes, layer_of, scale_shape, target_of

ARCH = Glm52Arch.from_config(published())


def test_the_published_model_has_the_published_number_of_parameters():
    shapes = expected_shapes(ARCH, range(78), first_stage=True, last_stage=True)
    total = sum(rows * (cols[0] if cols else 1) for rows, *cols in shapes.values())
    assert total == pytest.approx(743.4e9, rel=1e-3)  # 753.3e9 with the MTP layer


def test_only_full_layers_have_indexer_weights():
    shapes = expected_shapes(ARCH, range(78), first_stage=True, last_stage=True)
    assert sorted({layer_of(name) for name in shapes if ".indexer." in name}) == [0, 1, *range(2, 78, 4)]


def test_stages_divide_the_tensors():
    whole = expected_shapes(ARCH, range(78), first_stage=True, last_stage=True)
    first = expected_shapes(ARCH, range(38), first_stage=True, last_stage=False)
    last = expected_shapes(ARCH, range(38, 78), first_stage=False, last_stage=True)
    assert not first.keys() & last.keys() and first | last == whole


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (
            "model.layers.5.mlp.experts.17.up_proj.weight",
            Target("model.layers.5.mlp.experts.w13_weight", expert_id=17, shard="w3"),
        ),
        (
            "model.layers.5.mlp.experts.17.down_proj.weight_scale_inv",
            Target("model.layers.5.mlp.experts.w2_weight_scale_inv", expert_id=17, shard="w2"),
        ),
        (
            "model.layers.5.mlp.shared_experts.gate_proj.weight",
            Target("model.layers.5.mlp.shared_experts.gate_up_proj.weight", shard=0),
        ),
        (
            "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv",
            Target("model.layers.0.self_attn.fused_qkv_a_proj_with_mqa.weight_scale_inv", fused_a="kv_a_proj_with_mqa"),
        ),
        ("model.layers.0.self_attn.q_a_layernorm.weight", Target("model.layers.0.self_attn.q_a_layernorm.weight")),
        ("lm_head.weight", Target("lm_head.weight")),
    ],
)
def test_a_name_says_what_it_fills(name, target):
    assert target_of(name) == target


def test_block_scales_cover_ragged_edges():
    assert scale_shape((576, 6144)) == (5, 48) and scale_shape((128, 129)) == (1, 2)

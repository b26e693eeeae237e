"""The plan alone: no file is read, but for the config.json of the published checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from published_config import published

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import CheckpointError, ConfigError
from sglang_glm52.models.weights import is_routed_expert
from sglang_glm52.quantize.groups import rows
from sglang_glm52.quantize.plan import Action, Step, make_plan, published_tensors
from sglang_glm52.quantize.published_form import all_shapes, is_converted, unconverted_modules
from sglang_glm52.quantize.shards import TensorInfo
from sglang_glm52.quantize.target import plan_conversion

SIZE = 399.6e9
SMALL = {
    "num_hidden_layers": 4,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "indexer_types": ["full"] * 3 + ["shared"],
    "mlp_layer_types": ...,
    "index_topk_freq": ...,
    "index_skip_topk_offset": ...,
}


@pytest.fixture(scope="module")
def fp8_arch() -> Glm52Arch:
    """The published model with few layers and experts."""
    return Glm52Arch.from_config(published(**SMALL))


@pytest.fixture(scope="module")
def bf16_arch(fp8_arch) -> Glm52Arch:
    return replace(fp8_arch, quant=None)


def by_weight(steps: tuple[Step, ...]) -> dict[str, Step]:
    return {step.weight.name: step for step in steps}


@pytest.mark.parametrize("quantised", [True, False])
def test_the_published_model_becomes_400_gb(tmp_path, quantised):
    config = published() if quantised else published(quantization_config=...)
    (tmp_path / "config.json").write_text(json.dumps(config))
    source, target = plan_conversion(tmp_path, may_lack_weights=True)
    assert target.total_bytes == pytest.approx(SIZE, rel=0.005)
    assert target.source_bytes == pytest.approx(755.5e9 if quantised else 2 * 753.33e9, rel=0.005)
    by_group = {(row.group, row.action): row for row in rows(source.arch, target.steps)}
    experts = by_group["routed experts", "to int4 groups"], by_group["MTP routed experts", "to int4 groups"]
    assert [row.weights for row in experts] == [75 * 256 * 3, 256 * 3]
    values = sum(row.weights for row in experts) * 2048 * 6144
    assert sum(row.output_bytes for row in experts) == values // 2 + values // 128 * 2
    assert by_group["MTP, the rest", "copied"].weights > 0 and by_group["indexer", "copied"].weights > 0


def test_a_folder_without_weights_cannot_be_converted(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(published()))
    with pytest.raises(CheckpointError, match=r"holds no \*\.safetensors"):
        plan_conversion(tmp_path)


def test_an_mtp_layer_may_repeat_embeddings_and_head(fp8_arch, bf16_arch):
    shape = (fp8_arch.vocab_size, fp8_arch.hidden_size)
    names = [f"model.layers.4.{name}.weight" for name in ("embed_tokens", "shared_head.head")]
    for arch in (fp8_arch, bf16_arch):
        repeated = [TensorInfo(name, "BF16", shape) for name in names]
        steps = by_weight(make_plan(arch, [*published_tensors(arch), *repeated]))
        assert all(steps[name].action is Action.COPY for name in names)
        with pytest.raises(CheckpointError, match=r"layers\.4\.embed_tokens\.weight has shape \[1, 1\]"):
            make_plan(arch, [*published_tensors(arch), replace(repeated[0], shape=(1, 1))])


def test_every_tensor_has_one_fate(fp8_arch, bf16_arch):
    for arch in (fp8_arch, bf16_arch):
        found = list(published_tensors(arch))
        steps = make_plan(arch, reversed(found))
        taken = [info for step in steps for info in step.sources]
        assert sorted(taken, key=lambda info: info.name) == sorted(found, key=lambda info: info.name)
        written = [info.name for step in steps for info in step.outputs]
        assert len(written) == len(set(written))


def test_both_sources_end_in_the_same_tensors(fp8_arch, bf16_arch):
    outputs = [
        {info for step in make_plan(arch, published_tensors(arch)) for info in step.outputs}
        for arch in (fp8_arch, bf16_arch)
    ]
    assert outputs[0] == outputs[1]


def test_fates_of_an_fp8_checkpoint(fp8_arch):
    steps = by_weight(make_plan(fp8_arch, published_tensors(fp8_arch)))
    expert = steps["model.layers.4.mlp.experts.1.down_proj.weight"]  # the MTP layer's
    assert expert.action is Action.INT4
    assert [info.dtype for info in expert.sources] == ["F8_E4M3", "F32"]
    assert [(info.dtype, info.shape) for info in expert.outputs] == [("I8", (6144, 1024)), ("BF16", (6144, 16))]
    others = [step for step in steps.values() if not is_routed_expert(step.weight.name)]
    assert all(step.action is Action.COPY and step.sources == step.outputs for step in others)


def test_fates_of_a_bf16_checkpoint(bf16_arch):
    steps = by_weight(make_plan(bf16_arch, published_tensors(bf16_arch)))
    assert steps["model.layers.3.mlp.experts.0.up_proj.weight"].action is Action.INT4
    kv_a = steps["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"]
    assert kv_a.action is Action.FP8
    assert [(info.dtype, info.shape) for info in kv_a.outputs] == [("F8_E4M3", (576, 6144)), ("F32", (5, 48))]
    for name in ("lm_head", "model.embed_tokens", "model.layers.4.eh_proj", "model.layers.3.mlp.gate", "model.norm"):
        assert steps[f"{name}.weight"].action is Action.COPY


def test_what_may_be_either_bf16_or_float32(fp8_arch):
    tensors = {info.name: info for info in published_tensors(fp8_arch)}
    for name in ("model.norm.weight", "model.layers.3.mlp.gate.weight"):
        changed = tensors | {name: replace(tensors[name], dtype="F32")}
        assert by_weight(make_plan(fp8_arch, changed.values()))[name].outputs[0].dtype == "F32"
    name = "model.layers.3.mlp.shared_experts.up_proj.weight_scale_inv"
    with pytest.raises(CheckpointError, match="is BF16, expected F32"):
        make_plan(fp8_arch, (tensors | {name: replace(tensors[name], dtype="BF16")}).values())


def test_an_expert_may_not_be_left_unquantised(fp8_arch):
    """`modules_to_not_convert` could list one; the output has no form for it."""
    name = "model.layers.3.mlp.experts.0.up_proj"
    quant = replace(fp8_arch.quant, modules_to_not_convert=(*fp8_arch.quant.modules_to_not_convert, name))
    tensors = {info.name: info for info in published_tensors(fp8_arch)}
    del tensors[f"{name}.weight_scale_inv"]
    tensors[f"{name}.weight"] = replace(tensors[f"{name}.weight"], dtype="BF16")
    with pytest.raises(CheckpointError, match=rf"wrong: {name}.weight is BF16, expected F8_E4M3"):
        make_plan(replace(fp8_arch, quant=quant), tensors.values())


def test_a_model_that_groups_do_not_divide(fp8_arch):
    arch = replace(fp8_arch, moe_intermediate_size=2000)
    with pytest.raises(ConfigError, match="has 2000 inputs, not a multiple of 128"):
        make_plan(arch, published_tensors(arch))


def test_the_published_list_of_unconverted_modules_is_understood():
    """Each matrix that it names is one that stays as it is."""
    arch = Glm52Arch.from_config(published())
    ours = set(unconverted_modules(arch))
    listed = set(arch.quant.modules_to_not_convert)
    assert listed <= ours
    shapes = all_shapes(arch)
    assert not [name for name in ours - listed if len(shapes.get(f"{name}.weight", ())) == 2 and ".gate" not in name]
    assert not [name for name in listed if is_converted(f"{name}.weight", shapes.get(f"{name}.weight", ()))]


def test_groups_leave_no_tensor_out(fp8_arch):
    steps = make_plan(fp8_arch, published_tensors(fp8_arch))
    found = rows(fp8_arch, steps)
    assert sum(row.weights for row in found) == len(steps)
    assert sum(row.output_bytes for row in found) == sum(step.output_bytes for step in steps)
    [experts] = [row for row in found if row.group == "routed experts"]
    assert (experts.weights, experts.source_type, experts.output_type) == (6, "F8_E4M3 + F32", "I8 + BF16")
    assert experts.source_bytes == 6 * (6144 * 2048 + 4 * 48 * 16)


def test_bytes_of_a_tensor():
    assert TensorInfo("x", "BF16", (3, 5)).nbytes == 30 and TensorInfo("x", "F32", ()).nbytes == 4

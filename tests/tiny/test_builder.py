from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from published_config import published
from safetensors import safe_open
from safetensors.torch import load_file

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.tiny import build, builder

# What a config.json of a training framework has and no loader needs.
NOT_WRITTEN = {"ep_size", "pretraining_tp", "transformers_version", "quantization_config", "index_topk_pattern"}


def config_of(checkpoint: Path) -> dict:
    return json.loads((checkpoint / "config.json").read_text())


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for shard in sorted(checkpoint.glob("*.safetensors")):
        tensors = load_file(shard)
        assert not found.keys() & tensors.keys()
        found |= tensors
    return found


def contents(checkpoint: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in checkpoint.iterdir()}


@pytest.fixture(scope="module")
def bf16(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("bf16") / "model")


@pytest.fixture(scope="module")
def fp8(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("fp8") / "model", fmt="fp8")


def test_the_config_has_the_published_form(bf16):
    config = config_of(bf16)
    assert config.keys() - {"moe_router_dtype"} == published().keys() - NOT_WRITTEN
    assert config["head_dim"] == 192 and config["qk_rope_head_dim"] == 64
    assert Glm52Arch.from_checkpoint(bf16).indexer_types == ("full",) * 3 + ("shared",) * 3 + ("full", "shared")


def test_the_index_names_every_tensor_and_its_size(bf16, fp8):
    for checkpoint in (bf16, fp8):
        index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
        tensors = tensors_of(checkpoint)
        assert index["weight_map"].keys() == tensors.keys()
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
        for file in set(index["weight_map"].values()):
            with safe_open(checkpoint / file, "pt") as shard:
                assert set(shard.keys()) == {name for name, where in index["weight_map"].items() if where == file}


def test_a_weight_and_its_scale_may_lie_in_different_shards(fp8):
    weight_map = json.loads((fp8 / "model.safetensors.index.json").read_text())["weight_map"]
    scales = [name for name in weight_map if name.endswith("_scale_inv")]
    assert any(weight_map[name] != weight_map[name.removesuffix("_scale_inv")] for name in scales)


def test_shared_layers_have_no_indexer_and_the_mtp_layer_has_its_own(bf16):
    layers = {int(name.split(".")[2]) for name in tensors_of(bf16) if ".indexer." in name}
    assert layers == {0, 1, 2, 6, 8}


def test_the_mtp_layer_is_a_layer_of_experts_with_four_tensors_more(bf16):
    tensors = tensors_of(bf16)
    layer = {name.removeprefix("model.layers.6."): t.shape for name, t in tensors.items() if "layers.6." in name}
    mtp = {name.removeprefix("model.layers.8."): t.shape for name, t in tensors.items() if "layers.8." in name}
    added = {name: mtp.pop(name) for name in ("enorm.weight", "hnorm.weight", "shared_head.norm.weight")}
    assert set(added.values()) == {(128,)} and mtp.pop("eh_proj.weight") == (128, 256)
    assert mtp == layer


def test_dtypes(bf16):
    for name, tensor in tensors_of(bf16).items():
        is_bias = name.endswith("e_score_correction_bias")
        assert tensor.dtype == (torch.float32 if is_bias else torch.bfloat16), name
        assert torch.isfinite(tensor).all(), name


def test_fp8_holds_the_same_weights(bf16, fp8):
    plain, stored = tensors_of(bf16), tensors_of(fp8)
    assert stored.keys() - plain.keys() == {f"{n}_scale_inv" for n, t in stored.items() if t.dtype.itemsize == 1}
    for name, weight in plain.items():
        if stored[name].dtype != torch.float8_e4m3fn:
            assert torch.equal(stored[name], weight), name
            continue
        decoded = dequantize_fp8_block(stored[name], stored[f"{name}_scale_inv"])
        assert (decoded - weight.float()).norm() < 0.04 * weight.float().norm(), name


def test_fp8_leaves_what_the_published_checkpoint_leaves(fp8):
    plain = {
        name.rsplit(".", 2)[-2] for name, t in tensors_of(fp8).items() if t.dtype == torch.bfloat16 and t.dim() == 2
    }
    assert plain == {"embed_tokens", "lm_head", "gate", "weights_proj", "eh_proj"}
    section = config_of(fp8)["quantization_config"]
    assert section["quant_method"] == "fp8" and section["weight_block_size"] == [128, 128]
    listed = set(section["modules_to_not_convert"])
    assert {"lm_head", "model.embed_tokens", "model.layers.8.eh_proj", "model.layers.2.mlp.gate"} <= listed
    assert "model.layers.6.self_attn.indexers_proj" in listed
    assert not [name for name in listed if name.endswith(("o_proj", "down_proj", "wq_b"))]


def test_generation_stops_at_the_models_stop_tokens(bf16):
    assert json.loads((bf16 / "generation_config.json").read_text())["eos_token_id"] == config_of(bf16)["eos_token_id"]


def test_the_same_arguments_write_the_same_bytes(tmp_path, bf16):
    assert contents(build(tmp_path / "again")) == contents(bf16)


def test_another_seed_changes_every_matrix_but_no_shape(tmp_path, bf16):
    plain, other = tensors_of(bf16), tensors_of(build(tmp_path / "other", seed=1))
    assert {name: t.shape for name, t in plain.items()} == {name: t.shape for name, t in other.items()}
    assert not [name for name, tensor in plain.items() if torch.equal(tensor, other[name])]


def test_a_weight_does_not_depend_on_what_else_there_is(tmp_path, bf16):
    small = tensors_of(build(tmp_path / "small", overrides={"num_hidden_layers": 3, "n_routed_experts": 4}))
    plain = tensors_of(bf16)
    names = [
        "model.layers.2.self_attn.q_b_proj.weight",
        "model.layers.2.mlp.experts.3.up_proj.weight",
        "lm_head.weight",
    ]
    assert all(torch.equal(small[name], plain[name]) for name in names)


def test_overrides_reach_the_config_and_the_tensors(tmp_path):
    overrides = {"num_hidden_layers": 4, "index_topk_pattern": "FSFS", "num_nextn_predict_layers": 0, "index_topk": 128}
    checkpoint = build(tmp_path / "model", overrides=overrides)
    arch = Glm52Arch.from_checkpoint(checkpoint)
    assert arch.indexer_types == ("full", "shared", "full", "shared")
    assert (arch.num_layers, arch.num_mtp_layers, arch.index_topk) == (4, 0, 128)
    names = tensors_of(checkpoint)
    assert {int(name.split(".")[2]) for name in names if ".layers." in name} == {0, 1, 2, 3}
    assert {int(name.split(".")[2]) for name in names if ".indexer." in name} == {0, 2}


def test_an_override_of_none_takes_a_field_out(tmp_path):
    assert "rope_interleave" not in config_of(build(tmp_path / "model", overrides={"rope_interleave": None}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "tpu"}, "preset 'tpu' is unknown; choose one of cpu, gpu"),
        ({"fmt": "int8"}, "format 'int8' is unknown; choose one of bf16, fp8"),
        ({"overrides": {"hiden_size": 256, "foo": 1}}, "no field foo, hiden_size; fields are .*hidden_size"),
        ({"overrides": {"scoring_func": "softmax"}}, "scoring_func = 'softmax'"),
        ({"overrides": {"index_topk_pattern": "SFFFFFFF"}}, "makes layer 0 'shared'"),
        ({"overrides": {"indexer_types": ["full"] * 8, "index_topk_freq": 4}}, "disagree about layers"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build(tmp_path / "model", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        build(tmp_path)
    with pytest.raises(ConfigError, match="is not an empty folder"):
        build(tmp_path / "notes.txt")
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_an_empty_folder_and_a_missing_parent_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b"):
        assert (build(out, overrides={"num_hidden_layers": 2}) / "config.json").exists()


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(builder, "save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        build(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_gpu_preset_has_the_sizes_that_the_kernels_take():
    arch = Glm52Arch.from_config(builder.make_config("gpu", {}))
    real = Glm52Arch.from_config(published())
    for field in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        assert getattr(arch, field) == getattr(real, field), field
    for field in ("index_num_heads", "index_head_dim", "index_topk", "num_experts_per_token", "rope_theta"):
        assert getattr(arch, field) == getattr(real, field), field
    assert 64 % arch.num_heads == 0  # FlashMLA pads to 64 heads


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_two_ranks_get_whole_fp8_blocks(preset):
    arch = Glm52Arch.from_config(builder.make_config(preset, {}))
    assert arch.num_heads % 2 == arch.num_experts % 2 == arch.vocab_size % 2 == 0
    split = {
        "q_b_proj": arch.num_heads * arch.qk_head_dim,
        "kv_b_proj": arch.num_heads * (arch.qk_nope_head_dim + arch.v_head_dim),
        "o_proj": arch.num_heads * arch.v_head_dim,
        "mlp": arch.intermediate_size,
        "experts": arch.moe_intermediate_size,
    }
    assert not {name: size for name, size in split.items() if size // 2 % 128}
    assert arch.hidden_size % 128 == 0  # the int4 groups of experts' inputs

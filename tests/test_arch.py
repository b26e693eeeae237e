from __future__ import annotations

import dataclasses

import pytest
from published_config import FILE, published

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import CheckpointError, ConfigError


def test_the_published_config():
    arch = Glm52Arch.from_config(published())
    assert (arch.hidden_size, arch.vocab_size, arch.max_positions) == (6144, 154880, 1_048_576)
    assert (arch.num_layers, arch.num_dense_layers, arch.num_mtp_layers, arch.index_share_for_mtp) == (78, 3, 1, True)
    assert (arch.num_heads, arch.q_lora_rank, arch.kv_lora_rank, arch.v_head_dim) == (64, 2048, 512, 256)
    assert (arch.num_experts, arch.num_experts_per_token, arch.num_shared_experts) == (256, 8, 1)
    assert (arch.intermediate_size, arch.moe_intermediate_size) == (12288, 2048)
    assert (arch.index_num_heads, arch.index_head_dim, arch.index_topk) == (32, 128, 2048)
    assert (arch.rope_theta, arch.rms_norm_eps, arch.routed_scaling_factor) == (8e6, 1e-5, 2.5)
    assert (arch.rope_interleave, arch.indexer_rope_interleave, arch.norm_topk_prob) == (True, True, True)
    assert arch.eos_token_ids == (154820, 154827, 154829)


def test_head_dim_does_not_reach_the_rotary_dimension():
    assert published()["head_dim"] == 192
    arch = Glm52Arch.from_config(published())
    assert (arch.qk_rope_head_dim, arch.qk_nope_head_dim, arch.qk_head_dim) == (64, 192, 256)


def test_first_layers_are_dense():
    arch = Glm52Arch.from_config(published())
    assert [arch.is_moe_layer(layer) for layer in (0, 2, 3, 77, 78)] == [False, False, True, True, True]


@pytest.mark.parametrize("field", ["rope_interleave", "indexer_rope_interleave", "quantization_config"])
def test_fields_that_may_be_absent(field):
    arch = Glm52Arch.from_config(published(**{field: ...}))
    assert arch.rope_interleave and arch.indexer_rope_interleave
    assert (arch.quant is None) == (field == "quantization_config")


@pytest.mark.parametrize("value", [..., None, 0])
def test_a_model_without_mtp(value):
    assert Glm52Arch.from_config(published(num_nextn_predict_layers=value)).num_mtp_layers == 0


def test_rope_theta_in_an_older_file():
    arch = Glm52Arch.from_config(published(rope_parameters=..., rope_theta=1e6))
    assert arch.rope_theta == 1e6


def test_one_end_token():
    assert Glm52Arch.from_config(published(eos_token_id=7)).eos_token_ids == (7,)


def test_dense_layers_by_number_or_by_list():
    by_number = Glm52Arch.from_config(published(mlp_layer_types=...))
    by_list = Glm52Arch.from_config(published(first_k_dense_replace=...))
    assert by_number == by_list and by_list.num_dense_layers == 3


REFUSED = [
    ({"model_type": "deepseek_v3"}, "model_type = 'deepseek_v3'; only 'glm_moe_dsa'"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ({"scoring_func": "softmax"}, "scoring_func = 'softmax'; only 'sigmoid'"),
    ({"topk_method": "greedy"}, "topk_method = 'greedy'"),
    ({"n_group": 8}, "n_group = 8; only 1"),
    ({"topk_group": 4}, "topk_group = 4"),
    ({"moe_layer_freq": 2}, "moe_layer_freq = 2"),
    ({"attention_bias": True}, "attention_bias = True"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings = True"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 8e6, "factor": 4}}, "rope_type is 'yarn'"),
    ({"rope_parameters": {"rope_type": "default"}}, "no field 'rope_theta'"),
    ({"rope_theta": 1e4}, "rope_theta is 10000.0 and 8000000 in rope_parameters"),
    ({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": ...}, "rope_type is 'linear'"),
    ({"qk_rope_head_dim": 192}, "qk_head_dim = 256 is not .* = 384"),
    ({"qk_rope_head_dim": 192, "qk_head_dim": 384}, "qk_rope_head_dim = 192; expected .* at most index_head_dim = 128"),
    ({"qk_rope_head_dim": 63, "qk_head_dim": 255}, "qk_rope_head_dim = 63; expected an even number"),
    ({"hidden_size": ...}, "no field 'hidden_size'"),
    ({"hidden_size": "6144"}, "hidden_size = '6144'; expected an integer of at least 1"),
    ({"vocab_size": 0}, "vocab_size = 0; expected an integer of at least 1"),
    ({"num_attention_heads": True}, "num_attention_heads = True; expected an integer"),
    ({"rms_norm_eps": 0}, "rms_norm_eps = 0; expected a number above 0"),
    ({"routed_scaling_factor": float("nan")}, "routed_scaling_factor = nan"),
    ({"num_experts_per_tok": 257}, "num_experts_per_tok = 257 exceeds n_routed_experts = 256"),
    ({"num_nextn_predict_layers": -1}, "num_nextn_predict_layers = -1"),
    ({"first_k_dense_replace": 4}, "first_k_dense_replace = 4 contradicts mlp_layer_types, which starts with 3"),
    (
        {"first_k_dense_replace": 79, "mlp_layer_types": ...},
        "= 79 exceeds num_hidden_layers = 78",
    ),
    ({"mlp_layer_types": ["sparse"] * 77 + ["dense"]}, "expected 'dense' layers, then 'sparse' ones, 78 together"),
    ({"mlp_layer_types": ["dense"] * 3 + ["sparse"] * 74}, "expected 'dense' layers, then 'sparse' ones, 78 together"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_the_model_does_not_implement_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Glm52Arch.from_config(published(**changes))


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Glm52Arch.from_config(published()).num_layers = 1


def test_reading_a_checkpoint_folder(tmp_path):
    (tmp_path / "config.json").write_text(FILE.read_text())
    assert Glm52Arch.from_checkpoint(tmp_path) == Glm52Arch.from_config(published())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; name the folder"),
        (b'{"model_type": ', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "holds a JSON list, not an object"),
    ],
)
def test_an_unreadable_checkpoint_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"config.json {message}"):
        Glm52Arch.from_checkpoint(tmp_path)


def test_a_file_is_no_checkpoint_folder(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(CheckpointError, match="does not exist"):
        Glm52Arch.from_checkpoint(file)

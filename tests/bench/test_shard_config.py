import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.bench.shard_config import MIN_LAYERS, NUM_LAYERS, PUBLISHED, TP, indexer_type, rank_shard, write_model
from sglang_glm52.errors import ConfigError


def test_what_tensor_parallelism_divides_is_divided():
    shard = rank_shard("fp8")
    assert {field: shard[field] for field in shard if shard[field] != PUBLISHED.get(field)} == {
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 1536,
        "moe_intermediate_size": 256,
        "vocab_size": 19360,
        "indexer_types": shard["indexer_types"],
        "mlp_layer_types": shard["mlp_layer_types"],
        "quantization_config": shard["quantization_config"],
    }


def test_indexer_types_are_the_published_ones():
    full = [layer for layer in range(NUM_LAYERS) if indexer_type(layer) == "full"]
    assert full == [0, 1, 2, *range(6, NUM_LAYERS, 4)] and len(full) == 21


@pytest.mark.parametrize("fmt", ["fp8", "w4afp8"])
@given(num_layers=st.integers(MIN_LAYERS, NUM_LAYERS))
def test_every_shard_is_a_glm52(fmt, num_layers):
    arch = Glm52Arch.from_config(rank_shard(fmt, num_layers))
    assert arch.num_layers == num_layers == len(arch.indexer_types)
    assert arch.num_heads * TP == PUBLISHED["num_attention_heads"]
    assert [arch.is_moe_layer(layer) for layer in (0, 2, 3, num_layers - 1)] == [False, False, True, True]
    assert arch.quant.method == fmt


@pytest.mark.parametrize("num_layers", [0, MIN_LAYERS - 1, NUM_LAYERS + 1])
def test_a_number_of_layers_that_makes_no_shard_is_refused(num_layers):
    with pytest.raises(ConfigError, match=f"--layers {num_layers}: expected 4 .* to 78"):
        rank_shard("fp8", num_layers)


def test_the_model_folder_holds_the_config_alone(tmp_path):
    folder = write_model(tmp_path / "model", "fp8", 7)
    assert [file.name for file in folder.iterdir()] == ["config.json"]
    assert json.loads((folder / "config.json").read_text()) == rank_shard("fp8", 7)

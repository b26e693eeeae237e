"""Weights against numbers worked out by hand from the published shapes, and against the tensors of a checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.bench.shard_config import rank_shard
from sglang_glm52.errors import CheckpointError, ConfigError
from sglang_glm52.planner.engines import CUDA, cpu_engine
from sglang_glm52.planner.model import Model, described_tensors, preset_model, read_model
from sglang_glm52.planner.parallel import Parallel, check_split
from sglang_glm52.planner.weights import ABSORBED, KINDS, MTP, ROPE, padded_vocab, weight_bytes
from sglang_glm52.quantize.published_form import all_shapes
from sglang_glm52.quantize.shards import read_header
from sglang_glm52.tiny import build

HIDDEN, INNER, EXPERTS, MOE_LAYERS, LAYERS, FULL = 6144, 2048, 256, 75, 78, 21
EXPERT_VALUES = 3 * HIDDEN * INNER * EXPERTS
BLOCK = 1 + 4 / 128**2  # bytes of an FP8 value with its share of a float32 scale
GROUP = 1 / 2 + 2 / 128  # of an int4 value with its share of a bf16 scale


@pytest.mark.parametrize(("form", "gigabytes"), [("fp8", 755.62), ("w4afp8", 399.69), ("bf16", 1506.66)])
def test_published_sizes(form, gigabytes):
    assert preset_model(form).checkpoint_bytes / 1e9 == pytest.approx(gigabytes, abs=0.005)


def test_published_parameters():
    assert sum(map(math.prod, all_shapes(preset_model("bf16").arch).values())) / 1e9 == pytest.approx(753.33, abs=0.005)


@pytest.mark.parametrize(("form", "value_bytes"), [("w4afp8", GROUP), ("fp8", BLOCK), ("bf16", 2)])
def test_routed_experts_are_split_over_all_gpus(form, value_bytes):
    experts = EXPERT_VALUES * MOE_LAYERS * value_bytes
    for parallel in (Parallel(1), Parallel(8), Parallel(8, ep=8), Parallel(8, ep=4, dp=8)):
        assert weight_bytes(preset_model(form), parallel)["routed experts"] == experts / parallel.tp


def test_every_kind_of_the_fp8_model_on_one_of_eight():
    """By hand: 8 of 64 heads, 1536 of 12288 dense channels, 256 of 2048 expert channels, 19360 of 154880 tokens."""
    found = weight_bytes(preset_model("fp8"), Parallel(8))
    q_b, kv_b, o = 8 * 256 * 2048, 8 * (192 + 256) * 512, 8 * 256 * HIDDEN
    indexer = (32 * 128 * 2048 + 128 * HIDDEN) * BLOCK + 32 * HIDDEN * 2 + 2 * 128 * 4
    mlp = 3 * HIDDEN * INNER / 8 * BLOCK
    attention_a = (2048 + 512 + 64) * HIDDEN
    a_scales = 4 * (16 + 5) * 48  # 576 rows are four blocks and a half
    attention = (q_b + kv_b + o) * BLOCK + kv_b * 2 + attention_a + a_scales
    norms = 2 * (2 * HIDDEN + 2048 + 512)
    expected = {
        "routed experts": EXPERT_VALUES * MOE_LAYERS * BLOCK / 8,
        "shared experts": mlp * MOE_LAYERS,
        "dense MLP": 3 * 3 * HIDDEN * 12288 / 8 * BLOCK,
        "router": MOE_LAYERS * EXPERTS * (HIDDEN * 2 + 4),
        "attention, split by heads": (q_b + kv_b + o) * BLOCK * LAYERS,
        "attention, on every GPU": (attention_a + a_scales) * LAYERS,
        ABSORBED: kv_b * 2 * LAYERS,
        "indexer": indexer * FULL,
        "norms": norms * LAYERS + 2 * HIDDEN,
        "embeddings": 19360 * HIDDEN * 2,
        "output head": 19360 * HIDDEN * 2,
        ROPE: 1_048_576 * 64 * 4,
        MTP: EXPERT_VALUES * BLOCK / 8
        + mlp
        + EXPERTS * (HIDDEN * 2 + 4)
        + attention
        + indexer
        + norms
        + 3 * HIDDEN * 2
        + 2 * HIDDEN * HIDDEN * 2,
    }
    assert found == expected and tuple(found) == KINDS


def test_int4_touches_the_routed_experts_alone():
    fp8, int4 = (weight_bytes(preset_model(form), Parallel(8)) for form in ("fp8", "w4afp8"))
    assert {kind for kind in KINDS if fp8[kind] != int4[kind]} == {"routed experts", MTP}


def test_dp_attention_holds_attention_and_embeddings_whole():
    """Each DP rank of one GPU has all heads and all embeddings; experts, shared expert and output head stay split."""
    model = preset_model("fp8")
    split, whole = weight_bytes(model, Parallel(8)), weight_bytes(model, Parallel(8, dp=8))
    larger = {kind: whole[kind] / split[kind] for kind in KINDS if whole[kind] != split[kind]}
    assert larger.pop(MTP) > 1
    assert larger == {"attention, split by heads": 8, ABSORBED: 8, "embeddings": 8}


def test_a_rank_shard_weighs_what_one_of_eight_does():
    """A model with everything that TP 8 divides already divided, on one GPU: two ways to the same numbers."""
    arch = Glm52Arch.from_config(rank_shard("w4afp8"))
    shard = Model("", "w4afp8", arch, described_tensors(arch), "")
    alone, one_of_eight = weight_bytes(shard, Parallel(1)), weight_bytes(preset_model("w4afp8"), Parallel(8))
    vocab = {kind: alone.pop(kind) - one_of_eight.pop(kind) for kind in ("embeddings", "output head")}
    assert alone == one_of_eight
    assert set(vocab.values()) == {32 * HIDDEN * 2}  # its 19,360 rows are padded to 19,392


def test_float32_group_scales_become_bf16():
    """A checkpoint may have either; the grouped GEMM takes bf16."""
    model = preset_model("w4afp8")
    scale = next(info for info in model.tensors if info.name.endswith("experts.0.up_proj.weight_scale_inv"))
    wide = replace(scale, dtype="F32")
    assert wide.nbytes == 2 * scale.nbytes
    assert CUDA.loaded_bytes(model.arch, wide) == CUDA.loaded_bytes(model.arch, scale) == scale.nbytes


@pytest.mark.parametrize(("vocab", "ranks", "rows"), [(154880, 8, 154880), (320, 1, 320), (330, 1, 384), (320, 3, 384)])
def test_the_vocabulary_is_padded_as_sglang_does(vocab, ranks, rows):
    assert padded_vocab(vocab, ranks) == rows


@pytest.mark.parametrize("fmt", ["bf16", "fp8", "w4afp8"])
def test_a_checkpoint_is_read_from_its_headers(fmt, tmp_path):
    """What is loaded are its tensors, but for int4 scales, float32 LayerNorms and what is derived."""
    folder = build(tmp_path / "model", fmt=fmt)
    stored = [info for file in folder.glob("*.safetensors") for info, _ in read_header(file)]
    model = read_model(folder)
    assert model.form == fmt and model.source == "the headers of 2 shards"
    assert model.checkpoint_bytes == sum(info.nbytes for info in stored)
    norms = sum(info.nbytes for info in stored if ".indexer.k_norm." in info.name)
    kv_b = [info for info in stored if info.name.endswith("kv_b_proj.weight")]
    derived = sum(math.prod(info.shape) * 2 for info in kv_b) + 65536 * 64 * 4
    assert sum(weight_bytes(model, Parallel(1)).values()) == model.checkpoint_bytes + norms + derived
    assert read_model(folder / "config.json").tensors == described_tensors(model.arch)
    assert read_model(folder / "config.json").checkpoint_bytes == model.checkpoint_bytes


def test_two_gpus_hold_a_tiny_checkpoint_between_them(tmp_path):
    model = read_model(build(tmp_path / "model", fmt="fp8"))
    one, two = weight_bytes(model, Parallel(1)), weight_bytes(model, Parallel(2))
    split = ("routed experts", "shared experts", "dense MLP", "attention, split by heads", ABSORBED)
    for kind in (*split, "embeddings", "output head"):
        assert one[kind] == 2 * two[kind], kind
    for kind in ("router", "attention, on every GPU", "indexer", "norms", ROPE):
        assert one[kind] == two[kind], kind


def test_the_cpu_engine_holds_plain_numbers():
    model = preset_model("w4afp8")
    for item_bytes in (2, 4):
        found = weight_bytes(model, Parallel(1), cpu_engine(item_bytes))
        assert found["routed experts"] == EXPERT_VALUES * MOE_LAYERS * item_bytes


def test_a_missing_shard_is_named(tmp_path):
    folder = build(tmp_path / "model")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"is incomplete; download the rest, or plan from .*config.json alone\n"):
        read_model(folder)


def test_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_model(tmp_path / "config.json")


SPLITS = {
    "more than there are": (Parallel(16), 8, "--tp 16 needs 16 GPUs, there are 8; lower --tp or raise --gpus"),
    "none": (Parallel(0), 8, "--tp 0: expected at least 1"),
    "ep": (Parallel(8, ep=3), 8, "--ep 3 does not divide --tp 8"),
    "dp": (Parallel(8, dp=3), 8, "--dp 3 does not divide --tp 8"),
    "heads": (Parallel(6), 6, "splits 64 heads over 6 GPUs"),
    "expert width": (
        Parallel(32),
        32,
        "32 GPUs share a routed expert's 2048 inner channels, 64 each; expected a .* 128",
    ),
    "shared width": (Parallel(32, ep=32), 32, "the shared expert's 2048 inner channels, 64 each; .*: lower --tp"),
}


@pytest.mark.parametrize("case", SPLITS)
def test_a_split_that_cannot_be_is_refused(case):
    parallel, num_gpus, message = SPLITS[case]
    with pytest.raises(ConfigError, match=message):
        check_split(preset_model("w4afp8").arch, parallel, num_gpus)


def test_unquantised_experts_split_further():
    check_split(preset_model("bf16").arch, Parallel(32), 32)


def test_experts_that_ep_does_not_divide(tmp_path):
    arch = read_model(build(tmp_path / "model", overrides={"n_routed_experts": 6})).arch
    with pytest.raises(ConfigError, match="--ep 4 does not divide 6 experts"):
        check_split(arch, Parallel(4, ep=4), 4)

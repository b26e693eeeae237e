"""Broken and unsuitable checkpoints: each is refused by name, and nothing is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from quantize.checkpoints import (
    COPIED_BF16,
    COPIED_FP8,
    EXPERT,
    INDEX,
    change_tensor,
    copy,
    edit_header,
    edit_json,
    read_json,
    set_tensor,
    shard_of,
    tensors,
)
from safetensors.torch import load_file, save_file

from sglang_glm52.errors import CheckpointError, ConfigError
from sglang_glm52.quantize.convert import convert

SCALE = EXPERT + "_scale_inv"
CASES: dict[str, tuple[type[ValueError], str, Callable[[Path], None]]] = {}


def case(error: type[ValueError], message: str):
    """Register a way to break a copy of the FP8 checkpoint, and what must be said about it."""

    def register(breaks: Callable[[Path], None]) -> Callable[[Path], None]:
        CASES[breaks.__name__] = (error, message, breaks)
        return breaks

    return register


def config(folder: Path, edit: Callable[[dict], None]) -> None:
    edit_json(folder / "config.json", edit)


@case(CheckpointError, r"config\.json does not exist; name the folder")
def no_config(folder):
    (folder / "config.json").unlink()


@case(CheckpointError, r"config\.json is not JSON .* download it again")
def broken_config(folder):
    (folder / "config.json").write_text('{"model_type": ')


@case(ConfigError, "model_type = .llama.; only .glm_moe_dsa. is supported")
def another_model(folder):
    config(folder, lambda fields: fields.update(architectures=["LlamaForCausalLM"], model_type="llama"))


@case(ConfigError, "quant_method = 'gptq'; supported")
def another_quantisation(folder):
    config(folder, lambda fields: fields["quantization_config"].update(quant_method="gptq"))


@case(ConfigError, "is quantised already .*'w4afp8'.*; name the FP8 or BF16 checkpoint")
def quantised_already(folder):
    config(folder, lambda fields: fields["quantization_config"].update(quant_method="w4afp8"))


@case(CheckpointError, rf"{re.escape(EXPERT)} is I8, expected F8_E4M3: it is quantised already, name the FP8 or BF16")
def int8_experts(folder):
    change_tensor(folder, EXPERT, lambda weight: torch.zeros(weight.shape[0], weight.shape[1] // 2, dtype=torch.int8))


@case(
    CheckpointError, r"\{0-2\}\.self_attn\.o_proj\.weight is F8_E4M3, expected BF16: config\.json's quantization_config"
)
def config_without_its_quantisation(folder):
    config(folder, lambda fields: fields.pop("quantization_config"))


@case(CheckpointError, r"holds no \*\.safetensors; download the weights")
def no_weights(folder):
    for file in [*folder.glob("*.safetensors"), folder / INDEX]:
        file.unlink()


@case(CheckpointError, r"holds pickle files \(pytorch_model\.bin\).*: download the safetensors")
def pickles(folder):
    no_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")


@case(CheckpointError, r"missing: model-00003-of-00005\.safetensors, which model\.safetensors\.index\.json names")
def missing_shard(folder):
    (folder / "model-00003-of-00005.safetensors").unlink()


@case(CheckpointError, "missing: model-00001-of-00005.safetensors, which")
def an_index_and_no_shards(folder):
    for file in folder.glob("*.safetensors"):
        file.unlink()


@case(CheckpointError, r"unexpected: extra\.safetensors, which .* does not name")
def shard_that_the_index_does_not_name(folder):
    save_file({"extra": torch.zeros(1)}, folder / "extra.safetensors")


@case(CheckpointError, r"model-00002.* has \d+ bytes, its header says \d+: download it again")
def truncated_shard(folder):
    shard = folder / "model-00002-of-00005.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])


@case(CheckpointError, r"model-00002.* has \d+ bytes, its header says \d+: download it again")
def shard_with_bytes_after_its_tensors(folder):
    shard = folder / "model-00002-of-00005.safetensors"
    shard.write_bytes(shard.read_bytes() + b"\0")


@case(CheckpointError, r"model-00002.* has 100 bytes, and its header alone needs \d+: download it again")
def shard_cut_within_its_header(folder):
    shard = folder / "model-00002-of-00005.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])


@case(CheckpointError, r"model-00002.* has 0 bytes, and its header")
def empty_shard(folder):
    (folder / "model-00002-of-00005.safetensors").write_bytes(b"")


@case(CheckpointError, r"model-00002.* has no safetensors header")
def shard_that_is_a_web_page(folder):
    (folder / "model-00002-of-00005.safetensors").write_bytes((90).to_bytes(8, "little") + b"<html>" + b" " * 90)


@case(CheckpointError, "has a list for a header, expected an object")
def header_that_is_a_list(folder):
    edit_header(folder / "model-00002-of-00005.safetensors", lambda text: "[]")


@case(CheckpointError, rf"describes {re.escape(EXPERT)} as .* expected dtype, shape and data_offsets")
def header_without_offsets(folder):
    edit_entry(folder, lambda entry: entry.pop("data_offsets"))


@case(CheckpointError, rf"{re.escape(EXPERT)} is F4, a type this tool does not know; convert it")
def unknown_type(folder):
    edit_entry(folder, lambda entry: entry.update(dtype="F4"))


@case(CheckpointError, r"lies at bytes \d+ to \d+, expected")
def tensors_that_overlap(folder):
    edit_entry(folder, lambda entry: entry.update(data_offsets=[at - 8 for at in entry["data_offsets"]]))


@case(CheckpointError, rf"{re.escape(EXPERT)} F8_E4M3 \[256, 64\] lies at bytes \d+ to \d+, expected")
def shape_that_does_not_fill_its_bytes(folder):
    edit_entry(folder, lambda entry: entry.update(shape=[256, 64]))


def edit_entry(folder: Path, edit: Callable[[dict], None]) -> None:
    def change(text: str) -> str:
        header = json.loads(text)
        edit(header[EXPERT])
        return json.dumps(header)

    edit_header(shard_of(folder, EXPERT), change)


@case(CheckpointError, rf"lists {re.escape(EXPERT)} twice")
def name_twice_in_one_header(folder):
    edit_header(shard_of(folder, EXPERT), lambda text: text.rstrip()[:-1] + f',"{EXPERT}":{{}}}}')


@case(CheckpointError, rf"twice: {re.escape(EXPERT)} in .*safetensors and in .*safetensors")
def name_in_two_shards(folder):
    first = shard_of(folder, EXPERT)
    other = next(file for file in sorted(folder.glob("*.safetensors")) if file != first)
    save_file(load_file(other) | {EXPERT: load_file(first)[EXPERT]}, other)


@case(CheckpointError, rf"index: {re.escape(EXPERT)} is listed in (?P<one>\S+), found in (?!(?P=one))")
def index_that_names_another_shard(folder):
    other = next(file.name for file in sorted(folder.glob("*.safetensors")) if file != shard_of(folder, EXPERT))
    edit_json(folder / INDEX, lambda index: index["weight_map"].update({EXPERT: other}))


@case(CheckpointError, r"index: lm_head\.bias is listed in model-00001.*, found in None")
def index_that_names_a_tensor_that_is_nowhere(folder):
    shard = "model-00001-of-00005.safetensors"
    edit_json(folder / INDEX, lambda index: index["weight_map"].update({"lm_head.bias": shard}))


@case(CheckpointError, rf"index: {re.escape(EXPERT)} is listed in None, found in")
def index_that_leaves_a_tensor_out(folder):
    edit_json(folder / INDEX, lambda index: index["weight_map"].pop(EXPERT))


@case(CheckpointError, r"index\.json is not JSON with a weight_map .*; download it again")
def broken_index(folder):
    (folder / INDEX).write_text("{")


@case(CheckpointError, r"index\.json is not JSON with a weight_map .*; download it again")
def index_without_a_weight_map(folder):
    (folder / INDEX).write_text('{"metadata": {}}')


@case(CheckpointError, r"in '\.\./model\.safetensors', expected a \*\.safetensors file beside it")
def index_that_leads_out_of_the_folder(folder):
    edit_json(folder / INDEX, lambda index: index["weight_map"].update({EXPERT: "../model.safetensors"}))


@case(CheckpointError, rf"missing: {re.escape(COPIED_BF16)}\b")
def missing_tensor(folder):
    set_tensor(folder, COPIED_BF16, None)


@case(CheckpointError, rf"missing scale: {re.escape(SCALE)}\b")
def missing_scale(folder):
    set_tensor(folder, SCALE, None)


@case(CheckpointError, rf"missing scale: {re.escape(COPIED_FP8)}_scale_inv\b")
def missing_scale_of_a_copied_tensor(folder):
    set_tensor(folder, COPIED_FP8 + "_scale_inv", None)


@case(CheckpointError, r"unexpected: model\.layers\.1\.mlp\.experts\.2\.up_proj\.input_scale F32 \[1\]")
def unexpected_tensor(folder):
    set_tensor(folder, EXPERT.replace("weight", "input_scale"), torch.ones(1))


@case(CheckpointError, r"missing: model\.layers\.\{1-2\}\.mlp\.experts\.4\.down_proj\.weight")
def fewer_experts_than_config_says(folder):
    config(folder, lambda fields: fields.update(n_routed_experts=5))


@case(CheckpointError, rf"wrong: {re.escape(EXPERT)} has shape \[128, 256\], expected \[256, 128\]")
def transposed_expert(folder):
    change_tensor(folder, EXPERT, lambda weight: weight.t().contiguous())


@case(CheckpointError, rf"wrong: {re.escape(SCALE)} has shape \[1, 1\], expected \[2, 1\]")
def scale_of_another_shape(folder):
    change_tensor(folder, SCALE, lambda scale: scale[:1].contiguous())


@case(CheckpointError, rf"wrong: {re.escape(SCALE)} is BF16, expected F32")
def scale_of_another_type(folder):
    change_tensor(folder, SCALE, torch.Tensor.bfloat16)


@case(CheckpointError, rf"wrong: {re.escape(EXPERT)} is BF16, expected F8_E4M3: config.json's quantization_config")
def one_expert_in_bf16(folder):
    change_tensor(folder, EXPERT, torch.Tensor.bfloat16)


@case(CheckpointError, rf"wrong: {re.escape(COPIED_BF16)} is F16, expected BF16 or F32")
def router_in_float16(folder):
    change_tensor(folder, COPIED_BF16, torch.Tensor.half)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_before_anything_is_written(name, fp8, tmp_path):
    error, message, breaks = CASES[name]
    source = copy(fp8, tmp_path / "source")
    breaks(source)
    with pytest.raises(error, match=f"(?s){message}"):
        convert(source, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_there_are_many_ways_to_be_wrong():
    assert len(CASES) >= 15


def test_every_problem_is_named_at_once(fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    set_tensor(source, COPIED_BF16, None)
    transposed_expert(source)
    unexpected_tensor(source)
    with pytest.raises(CheckpointError) as refused:
        convert(source, tmp_path / "out", device="cpu")
    lines = str(refused.value).splitlines()
    assert len(lines) == 4 and {line.split(":")[0].strip() for line in lines[1:]} == {"missing", "wrong", "unexpected"}


def test_many_problems_of_one_kind_are_told_in_few_lines(fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    config(source, lambda fields: fields.update(n_routed_experts=104))
    message = r"missing: model\.layers\.\{1-2\}\.mlp\.experts\.\{4-103\}\.down_proj\.weight\n"
    with pytest.raises(CheckpointError, match=message) as refused:
        convert(source, tmp_path / "out", device="cpu")
    assert len(str(refused.value).splitlines()) < 20


def test_experts_that_groups_of_128_do_not_divide_are_refused(make_checkpoint, tmp_path):
    source = make_checkpoint("fp8", moe_intermediate_size=192)
    with pytest.raises(ConfigError, match=r"down_proj\.weight has 192 inputs, not a multiple of 128"):
        convert(source, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


BAD = {"nan": float("nan"), "inf": float("inf")}


@pytest.mark.parametrize(
    ("fmt", "name", "value"),
    [
        ("fp8", EXPERT, "nan"),
        ("fp8", SCALE, "nan"),
        ("fp8", SCALE, "inf"),
        ("fp8", COPIED_FP8, "nan"),
        ("fp8", COPIED_FP8 + "_scale_inv", "inf"),
        ("fp8", COPIED_BF16, "nan"),
        ("fp8", "model.norm.weight", "inf"),
        ("bf16", EXPERT, "inf"),
        ("bf16", COPIED_FP8, "nan"),  # one that becomes FP8 blocks
    ],
)
def test_nan_and_infinity_are_refused_by_name(fmt, name, value, request, tmp_path):
    """They are seen only when a shard is read; neither it nor a config.json that would complete it is written."""
    source = copy(request.getfixturevalue(fmt), tmp_path / "source")

    def spoil(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.float()
        changed.view(-1)[-1] = BAD[value]  # e4m3 has no infinity
        return changed.to(tensor.dtype)

    change_tensor(source, name, spoil)
    assert not torch.isfinite(tensors(source)[name].float()).all()
    with pytest.raises(CheckpointError, match=rf"^{re.escape(name)}(:| ).*(NaN|infinity).*(repair|again)"):
        convert(source, tmp_path / "out", device="cpu")
    weight = EXPERT if name == SCALE else name
    assert not (tmp_path / "out" / shard_of(source, weight).name).exists()
    assert not (tmp_path / "out" / "config.json").exists()
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_an_overflow_within_an_experts_block_is_refused(fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    change_tensor(source, SCALE, lambda scale: torch.full_like(scale, 1e37))
    with pytest.raises(CheckpointError, match=f"^{re.escape(EXPERT)}: "):
        convert(source, tmp_path / "out", device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gptq"}, "--method 'gptq' is unknown; choose one of rtn, mse"),
        ({"device": "tpu"}, "--device 'tpu' is unknown; choose one of auto, cpu, cuda"),
        ({"workers": 0}, "--workers 0: expected 1 or more"),
    ],
)
def test_bad_arguments(fp8, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        convert(fp8, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(fp8, tmp_path):
    with pytest.raises(ConfigError, match="--device cuda: torch sees no GPU; use --device cpu"):
        convert(fp8, tmp_path / "out", device="cuda")


def test_modules_that_the_config_leaves_unquantised_may_be_bf16(fp8, bf16, tmp_path):
    source = copy(fp8, tmp_path / "source")
    set_tensor(source, COPIED_FP8 + "_scale_inv", None)
    set_tensor(source, COPIED_FP8, tensors(bf16)[COPIED_FP8])
    listed = COPIED_FP8.removesuffix(".weight")
    config(source, lambda fields: fields["quantization_config"]["modules_to_not_convert"].append(listed))
    convert(source, tmp_path / "out", device="cpu")
    assert torch.equal(tensors(tmp_path / "out")[COPIED_FP8], tensors(bf16)[COPIED_FP8])
    section = read_json(tmp_path / "out" / "config.json")["quantization_config"]
    assert listed in section["modules_to_not_convert"]

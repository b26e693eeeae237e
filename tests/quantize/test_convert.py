"""What stands in the output, held to the source by other means than those that wrote it."""

from __future__ import annotations

import pytest
import torch
from quantize.checkpoints import COPIED_FP8, EXPERT, INDEX, contents, copy, read_json, tensors
from safetensors.torch import load_file, save_file

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.formats.fp8_block import dequantize_fp8_block
from sglang_glm52.formats.int4_group import dequantize_int4_group, quantize_int4_group
from sglang_glm52.quantize import tensor_io
from sglang_glm52.quantize.convert import convert

SCALE = "_scale_inv"


def is_expert(name: str) -> bool:
    return ".mlp.experts." in name


@pytest.mark.parametrize("method", ["rtn", "mse"])
def test_experts_are_the_formats_int4_of_the_dequantised_weight(fp8, tmp_path, method):
    convert(fp8, tmp_path / "out", method=method, device="cpu")
    source, output = tensors(fp8), tensors(tmp_path / "out")
    experts = [name for name in source if is_expert(name) and name.endswith(".weight")]
    assert len(experts) == 2 * 4 * 3  # the layer of experts and the MTP layer
    for name in experts:
        weight = dequantize_fp8_block(source[name], source[name + SCALE])
        packed, scale = quantize_int4_group(weight, method)
        assert torch.equal(output[name], packed) and output[name].dtype == torch.int8, name
        assert torch.equal(output[name + SCALE], scale) and output[name + SCALE].dtype == torch.bfloat16, name


def test_all_else_of_an_fp8_checkpoint_is_copied_bit_by_bit(fp8, from_fp8):
    source, output = tensors(fp8), tensors(from_fp8)
    assert source.keys() == output.keys()
    for name in (name for name in source if not is_expert(name)):
        assert source[name].dtype == output[name].dtype and source[name].shape == output[name].shape, name
        assert torch.equal(source[name].view(torch.uint8), output[name].view(torch.uint8)), name


def test_a_bf16_checkpoint_gets_the_fp8_blocks_of_the_published_form(fp8, bf16, from_bf16):
    """Both sources hold the same weights, so all but the experts must come out as in the FP8 one."""
    published, output = tensors(fp8), tensors(from_bf16)
    assert published.keys() == output.keys()
    for name in (name for name in published if not is_expert(name)):
        assert published[name].dtype == output[name].dtype, name
        assert torch.equal(published[name].view(torch.uint8), output[name].view(torch.uint8)), name
    assert output[COPIED_FP8].dtype == torch.float8_e4m3fn


def test_experts_of_a_bf16_checkpoint_are_quantised_from_bf16(bf16, from_bf16):
    source, output = tensors(bf16), tensors(from_bf16)
    for name in (name for name in source if is_expert(name)):
        packed, scale = quantize_int4_group(source[name], "mse")
        assert torch.equal(output[name], packed) and torch.equal(output[name + SCALE], scale), name


def test_a_shard_has_the_bytes_that_safetensors_would_write(from_fp8, tmp_path):
    for shard in from_fp8.glob("*.safetensors"):
        save_file(load_file(shard), tmp_path / "again", metadata={"format": "pt"})
        assert (tmp_path / "again").read_bytes() == shard.read_bytes()


def test_shards_keep_their_names_and_an_experts_scale_lies_with_its_weight(fp8, from_fp8):
    before, after = (read_json(folder / INDEX)["weight_map"] for folder in (fp8, from_fp8))
    assert any(before[name] != before[name + SCALE] for name in before if is_expert(name) and name + SCALE in before)
    for name, shard in after.items():
        weight = name.removesuffix(SCALE)
        assert shard == before[weight if is_expert(name) else name], name


def test_the_index_is_right(from_fp8, from_bf16):
    for folder in (from_fp8, from_bf16):
        index = read_json(folder / INDEX)
        found = {name: shard.name for shard in folder.glob("*.safetensors") for name in load_file(shard)}
        assert index["weight_map"] == found
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors(folder).values())


def test_config_keeps_all_but_the_quantisation(fp8, bf16, from_fp8, from_bf16):
    for source, output in ((fp8, from_fp8), (bf16, from_bf16)):
        before, after = read_json(source / "config.json"), read_json(output / "config.json")
        section = after.pop("quantization_config")
        before.pop("quantization_config", None)
        assert before == after
        assert section["quant_method"] == "w4afp8" and section["group_size"] == 128
        published = read_json(fp8 / "config.json")["quantization_config"]
        assert section["modules_to_not_convert"] == published["modules_to_not_convert"]
        quant = Glm52Arch.from_checkpoint(output).quant
        assert (quant.method, quant.group_size, quant.activation_scheme) == ("w4afp8", 128, "dynamic")
        assert quant.modules_to_not_convert == tuple(section["modules_to_not_convert"])


def test_the_host_takes_the_config_for_its_own_w4afp8(from_fp8):
    quantization = pytest.importorskip("sglang.srt.layers.quantization")
    section = read_json(from_fp8 / "config.json")["quantization_config"]
    overrides = [
        method.override_quantization_method(section, None) for method in quantization.QUANTIZATION_METHODS.values()
    ]
    assert not any(overrides)  # no other method takes the checkpoint for itself
    config = quantization.get_quantization_config(section["quant_method"]).from_config(section)
    assert (config.get_name(), config.group_size) == ("w4afp8", section["group_size"])
    assert config.weight_block_size == section["weight_block_size"] and config.is_checkpoint_fp8_serialized


def test_small_files_are_copied_and_others_are_not(fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    for name in ("README.md", "LICENSE", "pytorch_model.bin", "pytorch_model.bin.index.json"):
        (source / name).write_text("{}")
    (source / "vocab.txt").write_text("word")
    convert(source, tmp_path / "out", device="cpu")
    written = contents(tmp_path / "out")
    copied = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.txt"}
    assert all(written[name] == (source / name).read_bytes() for name in copied)
    others = {name for name in written if not name.endswith(".safetensors")} - copied - {"quantize_error.png"}
    assert others == {"config.json", INDEX, "quantize_report.json"}


@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_workers_changes_no_byte(fp8, from_fp8, tmp_path, workers):
    convert(fp8, tmp_path / "out", device="cpu", workers=workers)
    assert contents(tmp_path / "out") == contents(from_fp8)


@pytest.mark.parametrize("fmt", ["fp8", "bf16"])
def test_reading_in_smaller_parts_changes_no_byte(fmt, request, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_io, "_CPU_SLAB", 128 * 128)  # one block of 128 rows at a time
    monkeypatch.setattr(tensor_io, "CHUNK_BYTES", 1000)
    convert(request.getfixturevalue(fmt), tmp_path / "out", device="cpu")
    written, whole = contents(tmp_path / "out"), contents(request.getfixturevalue(f"from_{fmt}"))
    assert {name: data for name, data in written.items() if "report" not in name} == {
        name: data for name, data in whole.items() if "report" not in name
    }


def test_a_checkpoint_of_one_file_needs_no_index(fp8, from_fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    whole = tensors(source)
    for file in [*source.glob("*.safetensors"), source / INDEX]:
        file.unlink()
    save_file(whole, source / "model.safetensors")
    convert(source, tmp_path / "out", device="cpu")
    found, expected = tensors(tmp_path / "out"), tensors(from_fp8)
    assert all(torch.equal(found[name].view(torch.uint8), expected[name].view(torch.uint8)) for name in expected)
    assert set(read_json(tmp_path / "out" / INDEX)["weight_map"].values()) == {"model.safetensors"}


def test_a_shard_of_nothing_but_experts_scales_is_not_written(fp8, from_fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    whole = tensors(source)
    for file in source.glob("*.safetensors"):
        file.unlink()
    scales = {name: whole.pop(name) for name in list(whole) if is_expert(name) and name.endswith(SCALE)}
    save_file(whole, source / "weights.safetensors")
    save_file(scales, source / "scales.safetensors")
    (source / INDEX).unlink()
    convert(source, tmp_path / "out", device="cpu")
    assert [file.name for file in (tmp_path / "out").glob("*.safetensors")] == ["weights.safetensors"]
    assert torch.equal(tensors(tmp_path / "out")[EXPERT], tensors(from_fp8)[EXPERT])


def test_a_checkpoint_of_links_is_read(fp8, from_fp8, tmp_path):
    """The way a download cache lays out a checkpoint."""
    links = tmp_path / "snapshot"
    links.mkdir()
    for file in fp8.iterdir():
        (links / file.name).symlink_to(file)
    convert(links, tmp_path / "out", device="cpu")
    written, expected = contents(tmp_path / "out"), contents(from_fp8)
    assert {name for name in written if written[name] != expected[name]} <= {"quantize_report.json"}  # its source name


def test_int4_is_close_to_the_bf16_weights(bf16, from_fp8):
    original, output = tensors(bf16), tensors(from_fp8)
    for name in (name for name in original if is_expert(name)):
        weight = original[name].float()
        error = (dequantize_int4_group(output[name], output[name + SCALE]) - weight).norm() / weight.norm()
        assert error < 0.11, f"{name}: {error:.3f}"  # 0.097 for normal weights, and 0.026 for having been FP8

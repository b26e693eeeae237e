"""Whatever changes in the output, `verify` finds it and says what it is."""

from __future__ import annotations

import json
import re
import shutil
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
    flip_byte,
    set_tensor,
    shard_of,
)
from safetensors.torch import save_file

from sglang_glm52.errors import CheckpointError, ConfigError
from sglang_glm52.quantize import tensor_io
from sglang_glm52.quantize.convert import convert
from sglang_glm52.quantize.resume import WORK_FOLDER
from sglang_glm52.quantize.verify import verify

SCALE = EXPERT + "_scale_inv"
MTP_EXPERT = "model.layers.2.mlp.experts.3.down_proj.weight"
REPORT = "quantize_report.json"


@pytest.fixture
def out(from_fp8, tmp_path) -> Path:
    """A copy of the output that a test may spoil."""
    return copy(from_fp8, tmp_path / "out")


def problems(src: Path, out: Path) -> list[str]:
    verdict = verify(src, out, workers=2)
    assert verdict.ok == (not verdict.problems)
    return list(verdict.problems)


def test_what_was_just_written_holds(fp8, from_fp8, bf16, from_bf16):
    verdict = verify(fp8, from_fp8)
    assert verdict.ok and (verdict.converted, verdict.file_bytes) == (24, written_bytes(from_fp8))
    assert verify(bf16, from_bf16).converted > 24  # its linear layers were converted as well


def written_bytes(out: Path) -> int:
    return sum(file.stat().st_size for file in out.iterdir() if file.name != REPORT)


@pytest.mark.parametrize("fmt", ["fp8", "bf16"])
def test_it_does_not_matter_how_much_is_read_at_once(fmt, request, monkeypatch):
    monkeypatch.setattr(tensor_io, "_CPU_SLAB", 128 * 128)
    monkeypatch.setattr(tensor_io, "CHUNK_BYTES", 1000)
    assert problems(request.getfixturevalue(fmt), request.getfixturevalue(f"from_{fmt}")) == []


@pytest.mark.parametrize("name", [EXPERT, MTP_EXPERT])
@pytest.mark.parametrize("byte", [0, 64 * 100 + 7, -1])
def test_one_bit_of_an_int4_weight(fp8, out, name, byte):
    flip_byte(out, name, byte % (256 * 64), bits=0x10)
    found = problems(fp8, out)
    assert any(line.startswith(f"changed: {name} ") for line in found)
    assert all(name in line for line in found)


def test_one_bit_of_a_scale(fp8, out):
    flip_byte(out, SCALE, byte=11, bits=0x40)
    assert any(line.startswith(f"changed: {SCALE} ") for line in problems(fp8, out))


def test_a_scale_that_is_off_shows_in_the_error(fp8, out):
    change_tensor(out, SCALE, lambda scale: scale * 1.5)
    error = next(line for line in problems(fp8, out) if line.startswith("error: "))
    found, stated = map(float, re.fullmatch(rf"error: {EXPERT} is (\S+) away .* the report says (\S+)", error).groups())
    assert found == pytest.approx(0.5, abs=0.1) and stated == pytest.approx(0.097, abs=0.005)


def test_a_report_that_promises_too_much(fp8, out):
    """The hashes are right, a number beside them is not, be it by a ten-thousandth."""

    def flatter(report: dict) -> None:
        report["tensors"][EXPERT]["error"]["mse"] *= 0.9999

    edit_json(out / REPORT, flatter)
    assert [line.split(" ")[:2] for line in problems(fp8, out)] == [["error:", EXPERT]]


def test_a_scale_of_nan(fp8, out):
    change_tensor(out, SCALE, lambda scale: torch.full_like(scale, float("nan")))
    assert any(line.startswith(f"error: {EXPERT} is nan away") for line in problems(fp8, out))


@pytest.mark.parametrize("name", [COPIED_FP8, COPIED_BF16, COPIED_FP8 + "_scale_inv", "model.norm.weight"])
def test_one_bit_of_a_copied_tensor(fp8, out, name):
    flip_byte(out, name, byte=3)
    assert problems(fp8, out) == [f"differs: {name} from byte 3 on is not what the source has"]


def test_one_bit_of_a_linear_layer_that_became_fp8(bf16, from_bf16, tmp_path):
    out = copy(from_bf16, tmp_path / "out")
    flip_byte(out, COPIED_FP8, byte=5)
    assert any(line.startswith(f"changed: {COPIED_FP8} ") for line in problems(bf16, out))


def test_a_shard_that_is_cut_short(fp8, out):
    shard = shard_of(out, EXPERT)
    shard.write_bytes(shard.read_bytes()[:-1])
    found = problems(fp8, out)
    assert any(re.match(rf"size: {shard.name} has \d+ bytes, expected \d+", line) for line in found)
    assert any(line.startswith(f"broken: {shard}") for line in found)


def test_a_header_that_lies(fp8, out):
    edit_header(shard_of(out, EXPERT), lambda text: re.sub(rf'("{EXPERT}":{{"dtype":)"I8"', r'\1"U8"', text))
    [line] = problems(fp8, out)
    assert line.startswith("header: ") and f"{EXPERT} is U8 [256, 64], expected I8 [256, 64]" in line


def test_a_tensor_too_many(fp8, out):
    set_tensor(out, "extra", torch.ones(1))
    assert any("extra is F32 [1], expected absent" in line for line in problems(fp8, out))


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "config.json", INDEX])
def test_a_missing_file(fp8, out, name):
    (out / name).unlink()
    assert problems(fp8, out) == [f"missing: {name}"]


def test_a_missing_shard(fp8, out):
    shard_of(out, EXPERT).unlink()
    assert problems(fp8, out) == [f"missing: {shard_of(out, EXPERT).name}"]


def test_a_shard_too_many(fp8, out):
    save_file({"extra": torch.ones(1)}, out / "extra.safetensors")
    assert problems(fp8, out) == ["unexpected: extra.safetensors, which a server would load as well"]


def test_a_small_file_with_other_contents(fp8, out):
    template = out / "chat_template.jinja"
    template.write_bytes(template.read_bytes()[::-1])
    assert problems(fp8, out) == ["differs: chat_template.jinja is not what the source has"]


def test_fields_of_the_config(fp8, out):
    def spoil(fields: dict) -> None:
        fields["quantization_config"]["group_size"] = 64
        del fields["hidden_size"]

    edit_json(out / "config.json", spoil)
    assert problems(fp8, out) == [
        "config: config.json: hidden_size is absent, expected 128",
        "config: config.json: quantization_config.group_size is 64, expected 128",
    ]


def test_entries_of_the_index(fp8, out):
    def spoil(index: dict) -> None:
        index["metadata"]["total_size"] += 1
        index["weight_map"][EXPERT] = "elsewhere.safetensors"

    edit_json(out / INDEX, spoil)
    found = problems(fp8, out)
    assert len(found) == 2 and "metadata.total_size is" in found[0]
    assert f"weight_map.{EXPERT} is 'elsewhere.safetensors', expected 'model-" in found[1]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_no_object(fp8, out, text):
    (out / "config.json").write_text(text)
    [line] = problems(fp8, out)
    assert line.startswith("config: config.json ")


def test_how_the_config_is_set_does_not_matter(fp8, out):
    fields = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(dict(reversed(fields.items()))))
    assert problems(fp8, out) == []


def test_a_missing_report(fp8, out):
    (out / REPORT).unlink()
    flip_byte(out, COPIED_FP8)
    assert [line.split(":")[0] for line in problems(fp8, out)] == ["report", "differs"]


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_report_that_is_none(fp8, out, text):
    (out / REPORT).write_text(text)
    [line] = problems(fp8, out)
    assert line.startswith("report: ") and "is no report of glm52 quantize" in line


def test_a_report_that_leaves_a_tensor_out(fp8, out):
    edit_json(out / REPORT, lambda report: report["tensors"].pop(EXPERT))
    assert [line.split(",")[0] for line in problems(fp8, out)] == [f"report: it says nothing of {EXPERT}"]


def test_another_source(make_checkpoint, from_fp8):
    found = problems(make_checkpoint("fp8", seed=1), from_fp8)
    assert found[0].startswith("report: it is of another source")
    assert {line.split(":")[0] for line in found} == {"report", "differs", "error"}


def test_an_unfinished_output(fp8, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda folder: None)  # stopped before it cleaned up
        convert(fp8, out, device="cpu")
    assert problems(fp8, out) == [f"unfinished: {WORK_FOLDER} is still there; give the quantize command again"]


def test_a_source_that_broke_in_the_meantime(fp8, from_fp8, tmp_path):
    source = copy(fp8, tmp_path / "source")
    shard_of(source, EXPERT).unlink()
    with pytest.raises(CheckpointError, match="which model.safetensors.index.json names"):
        verify(source, from_fp8)


def test_an_output_that_is_not_there(fp8, tmp_path):
    with pytest.raises(ConfigError, match="is not a folder; name what glm52 quantize has written"):
        verify(fp8, tmp_path / "out")

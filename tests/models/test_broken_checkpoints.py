"""A checkpoint that is not what its config.json describes stops the load, and everything wrong with it is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sglang_glm52.testing.server import CPU_ENVIRON
from sglang_glm52.tiny import build
from sglang_glm52.tiny.builder import FORMATS

SCRIPT = Path(__file__).with_name("load_checkpoints.py")
Tensors = dict[str, torch.Tensor]

Q_A = "model.layers.3.self_attn.q_a_proj.weight"
EXPERT = "model.layers.4.mlp.experts.5.up_proj.weight"
INPUT_SCALE = "model.layers.4.mlp.experts.5.up_proj.input_scale"
O_PROJ = "model.layers.0.self_attn.o_proj.weight"
INDEXER = "model.layers.{}.self_attn.indexer.wk.weight"  # layer 2 is full, layer 3 shares its selection


@dataclass(frozen=True)
class Case:
    """One way to break a checkpoint, and what the error must say."""

    name: str
    says: tuple[str, ...]
    tensors: Callable[[Tensors], object] = lambda tensors: None
    config: Callable[[dict], object] = lambda config: None
    fmt: str = "bf16"


def reshape(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name].T.contiguous()


def break_three(tensors: Tensors) -> None:
    del tensors[Q_A]
    tensors["model.layers.0.self_attn.surplus"] = torch.zeros(1)
    reshape(tensors, EXPERT)


CASES = (
    Case("a missing projection", (f"missing: {Q_A}",), lambda t: t.pop(Q_A)),
    Case("a missing expert", (f"missing: {EXPERT}",), lambda t: t.pop(EXPERT)),
    Case("a missing output head", ("missing: lm_head.weight",), lambda t: t.pop("lm_head.weight")),
    Case(
        "a full layer without its indexer",
        (f"missing: {INDEXER.format(2)}",),
        lambda t: t.pop(INDEXER.format(2)),
    ),
    Case(
        "indexer weights on a layer that shares",
        (f"unexpected: {INDEXER.format(3)}",),
        lambda t: t.update({INDEXER.format(3): t[INDEXER.format(2)].clone()}),
    ),
    Case("a tensor of another model", ("unexpected: visual.proj",), lambda t: t.update({"visual.proj": torch.ones(2)})),
    Case(
        "a layer beyond the last",
        ("unexpected: model.layers.9.input_layernorm.weight",),
        lambda t: t.update({"model.layers.9.input_layernorm.weight": torch.ones(128)}),
    ),
    Case(
        "a projection of another shape",
        (f"wrong: {EXPERT} has shape (128, 256), expected (256, 128)",),
        lambda t: reshape(t, EXPERT),
    ),
    Case(
        "integers for a weight",
        (f"wrong: {O_PROJ} is torch.int8, expected bfloat16 or torch.float8_e4m3fn",),
        lambda t: t.update({O_PROJ: t[O_PROJ].to(torch.int8)}),
    ),
    Case("FP8 without scales", (f"missing: {O_PROJ}_scale_inv",), lambda t: t.pop(f"{O_PROJ}_scale_inv"), fmt="fp8"),
    Case(
        "scales of another shape",
        (f"wrong: {O_PROJ}_scale_inv has shape (1, 3), expected (1, 2)",),
        lambda t: t.update({f"{O_PROJ}_scale_inv": torch.ones(1, 3)}),
        fmt="fp8",
    ),
    Case(
        "scales for a weight that is not FP8",
        (f"unexpected: {O_PROJ}_scale_inv (its weight is not quantised)",),
        lambda t: t.update({f"{O_PROJ}_scale_inv": torch.ones(1, 2)}),
    ),
    Case(
        "an expert that was not quantised",
        (f"wrong: {EXPERT} is torch.bfloat16, expected torch.int8",),
        lambda t: t.update({EXPERT: torch.ones(256, 128, dtype=torch.bfloat16)}),
        fmt="w4afp8",
    ),
    Case(
        "int4 with one value a byte",
        (f"wrong: {EXPERT} has shape (256, 128), expected (256, 64)",),
        lambda t: t.update({EXPERT: torch.ones(256, 128, dtype=torch.int8)}),
        fmt="w4afp8",
    ),
    Case(
        "int4 without scales", (f"missing: {EXPERT}_scale_inv",), lambda t: t.pop(f"{EXPERT}_scale_inv"), fmt="w4afp8"
    ),
    Case(
        "int4 groups of another size",
        (f"wrong: {EXPERT}_scale_inv has shape (256, 2), expected (256, 1)",),
        lambda t: t.update({f"{EXPERT}_scale_inv": torch.ones(256, 2)}),
        fmt="w4afp8",
    ),
    Case(
        "a group size that is not implemented",
        ("group_size = 64",),
        config=lambda c: c["quantization_config"].update(group_size=64),
        fmt="w4afp8",
    ),
    Case(
        "an activation scale that is no number",
        (f"wrong: {INPUT_SCALE} is nan, expected a number above 0",),
        lambda t: t.update({INPUT_SCALE: torch.tensor(float("nan"))}),
        fmt="w4afp8",
    ),
    Case(
        "activation scales where nothing is int4",
        (f"unexpected: {INPUT_SCALE}",),
        lambda t: t.update({INPUT_SCALE: torch.tensor(1.0)}),
        fmt="fp8",
    ),
    Case(
        "several things at once",
        (f"missing: {Q_A}", "unexpected: model.layers.0.self_attn.surplus", EXPERT),
        break_three,
    ),
    Case(
        "IndexShare fields that contradict",
        ("index_topk_freq", "indexer_types"),
        config=lambda c: c.update(index_topk_freq=2),
    ),
    Case(
        "a first layer that shares",
        ("layer 0 'shared'",),
        config=lambda c: c.update(indexer_types=["shared"] * 8, index_topk_freq=None, index_skip_topk_offset=None),
    ),
    Case("a field that is missing", ("no field 'kv_lora_rank'",), config=lambda c: c.pop("kv_lora_rank")),
    Case(
        "an overwritten rotary dimension",
        ("qk_head_dim = 128 is not qk_nope_head_dim + qk_rope_head_dim = 256",),
        config=lambda c: c.update(qk_rope_head_dim=192),
    ),
    Case(
        "scaled rotary positions",
        ("rope_type is 'yarn'",),
        config=lambda c: c["rope_parameters"].update(rope_type="yarn", factor=4.0),
    ),
    Case(
        "FP8 blocks of another size",
        ("weight_block_size = [64, 64]",),
        config=lambda c: c["quantization_config"].update(weight_block_size=[64, 64]),
        fmt="fp8",
    ),
)


def write(folder: Path, tensors: Tensors, config: dict) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """{case name: error}, and what an update did."""
    root = tmp_path_factory.mktemp("checkpoints")
    bases = {fmt: build(root / fmt, fmt=fmt) for fmt in FORMATS}
    folders = {case.name: write_broken(root / f"case{i}", bases[case.fmt], case) for i, case in enumerate(CASES)}
    lost = shutil.copytree(bases["bf16"], root / "lost")
    (lost / "model-00002-of-00002.safetensors").unlink()
    folders |= {f"whole {fmt}": base for fmt, base in bases.items()} | {"a lost shard": lost}
    paths = [str(folders["whole bf16"]), *map(str, folders.values())]
    paths = [path for path in paths if path != str(folders["whole w4afp8"])] + [str(folders["whole w4afp8"])]
    command = [sys.executable, str(SCRIPT), *dict.fromkeys(paths)]
    done = subprocess.run(command, env=os.environ | CPU_ENVIRON, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    printed = json.loads(done.stdout.splitlines()[-1])
    return {name: printed[str(folder)] for name, folder in folders.items()} | {
        step: printed[step] for step in ("update", "static")
    }


def write_broken(folder: Path, base: Path, case: Case) -> Path:
    tensors: Tensors = {}
    for shard in base.glob("*.safetensors"):
        tensors |= load_file(shard)
    config = json.loads((base / "config.json").read_text())
    case.tensors(tensors)
    case.config(config)
    return write(folder, tensors, config)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_checkpoint_is_refused_by_name(outcomes: dict[str, str], case: Case) -> None:
    error = outcomes[case.name]
    assert error.startswith(("CheckpointError: ", "ConfigError: ")), error
    assert all(words in error for words in case.says), error


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_whole_checkpoint_loads(outcomes: dict[str, str], fmt: str) -> None:
    assert outcomes[f"whole {fmt}"] == ""


def test_a_lost_shard_is_noticed(outcomes: dict[str, str]) -> None:
    """Its tensors are listed, all of them: the shards take turns, so half of the model's."""
    error = outcomes["a lost shard"]
    assert error.startswith("CheckpointError: ") and "model.layers.{" in error and ".mlp.experts.{" in error, error


def test_an_update_brings_some_weights_and_what_derives_from_them(outcomes: dict[str, dict]) -> None:
    assert outcomes["update"] == {"doubled": True}


def test_static_scales_that_are_asked_for_must_be_there(outcomes: dict[str, str]) -> None:
    error = outcomes["static"]
    assert "missing: model.layers.{2-7}.mlp.experts.{0-7}.up_proj.input_scale" in error, error

"""Writes a checkpoint folder: config, sharded safetensors with an index, tokenizer, chat template."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.quantize.convert import convert
from sglang_glm52.quantize.published_form import unconverted_modules
from sglang_glm52.tiny.mtp_values import CodedValues
from sglang_glm52.tiny.presets import make_config
from sglang_glm52.tiny.tokenizer import write_tokenizer
from sglang_glm52.tiny.values import Values
from sglang_glm52.tiny.weights import make_tensors, make_values

FORMATS = ("bf16", "fp8", "w4afp8")
SHARD_BYTES = 256 << 20
MIN_SHARDS = 2  # so that a small checkpoint too has an index, and tensors that belong together in different files


def build(
    out_dir: str | Path,
    preset: str = "cpu",
    fmt: str = "bf16",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    mtp_acceptance: float | None = None,
) -> Path:
    """Write a random checkpoint; the same arguments write the same bytes.

    Args:
        out_dir: must not exist, or be empty. It appears whole or not at all.
        preset: "cpu" or "gpu". fmt: "bf16", "fp8", or "w4afp8", which is quantised from fp8.
        overrides: fields of config.json to replace; None takes one out.
        mtp_acceptance: how often the MTP layer is right about the greedy next token, from 0 to 1, exactly and whatever
            the context (see `mtp_code.py`); None for plain noise, which is right about one time in 100.

    Returns:
        `out_dir` as a Path.

    Raises:
        ConfigError: a bad argument or a config this model does not support, or `out_dir` holds something.
    """
    out = Path(out_dir)
    if fmt not in FORMATS:
        raise ConfigError(f"format {fmt!r} is unknown; choose one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; name another, or remove it first")
    config = make_config(preset, overrides or {})
    values = make_values(Glm52Arch.from_config(config), seed, mtp_acceptance)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        folder = Path(scratch) / "checkpoint"
        if fmt == "w4afp8":
            source = Path(scratch) / "fp8"
            _write(source, config, "fp8", values)
            convert(source, folder, device="cpu", workers=1)
        else:
            _write(folder, config, fmt, values)
        folder.replace(out)
    return out


def _write(folder: Path, config: Mapping[str, Any], fmt: str, values: Values | CodedValues) -> None:
    arch = Glm52Arch.from_config(config)
    section = {"quantization_config": fp8_section(arch)} if fmt == "fp8" else {}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, **section}, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(_generation_config(config), indent=2) + "\n")
    write_tokenizer(folder)
    _write_shards(folder, make_tensors(arch, fmt, values))


def fp8_section(arch: Glm52Arch) -> dict[str, Any]:
    return {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": unconverted_modules(arch),
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }


def _generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "do_sample": True,
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
        "temperature": 1.0,
        "top_p": 0.95,
    }


def _write_shards(folder: Path, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
    """Tensors are spread in turn, so an FP8 weight and its scale land in different shards."""
    named = dict(tensors)
    total = sum(tensor.nbytes for tensor in named.values())
    count = max(MIN_SHARDS, -(-total // SHARD_BYTES))
    names = list(named)
    weight_map = {}
    for index in range(count):
        file = f"model-{index + 1:05d}-of-{count:05d}.safetensors"
        shard = {name: named[name] for name in names[index::count]}
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    index_file = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_file, indent=2) + "\n")

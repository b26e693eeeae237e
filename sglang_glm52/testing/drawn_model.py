"""A checkpoint that is never written: its tensors are drawn on the device of each process that loads them.

A model of full width is hundreds of gigabytes on disk and takes a CPU minutes to draw; a GPU draws it in seconds, the
same on every rank, so that servers of one and of several GPUs have the same weights. Tensors are loaded as those of
files are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.quantize.target import quantization_section
from sglang_glm52.tiny.builder import fp8_section
from sglang_glm52.tiny.presets import make_config
from sglang_glm52.tiny.weights import make_tensors, make_values

DRAWN = "drawn.json"  # beside config.json: what to draw


def write_drawn(
    folder: Path, preset: str, fmt: str, seed: int, overrides: Mapping[str, Any], mtp_acceptance: float | None = None
) -> Path:
    """The folder to serve; arguments as `tiny.build` takes them."""
    config = make_config(preset, overrides)
    arch = Glm52Arch.from_config(config)
    sections = {"bf16": {}, "fp8": fp8_section(arch), "w4afp8": quantization_section(arch)}
    section = {"quantization_config": sections[fmt]} if sections[fmt] else {}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | section, indent=2))
    (folder / DRAWN).write_text(json.dumps({"fmt": fmt, "seed": seed, "mtp_acceptance": mtp_acceptance}))
    return folder


def is_drawn(folder: Path) -> bool:
    return (folder / DRAWN).exists()


def drawn_tensors(folder: Path, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    """(checkpoint name, tensor) of the whole model."""
    what = json.loads((folder / DRAWN).read_text())
    arch = Glm52Arch.from_checkpoint(folder)
    yield from make_tensors(arch, what["fmt"], make_values(arch, what["seed"], what["mtp_acceptance"], device))

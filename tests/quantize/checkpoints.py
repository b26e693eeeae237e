"""Small checkpoints, and ways to change or break a copy of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

INDEX = "model.safetensors.index.json"
# One dense layer, one of experts, the MTP layer; a dimension that 128 does not divide has partial FP8 blocks.
OVERRIDES = {"num_hidden_layers": 2, "first_k_dense_replace": 1, "n_routed_experts": 4, "q_lora_rank": 192}
EXPERT = "model.layers.1.mlp.experts.2.up_proj.weight"
COPIED_FP8 = "model.layers.1.self_attn.o_proj.weight"
COPIED_BF16 = "model.layers.1.mlp.gate.weight"


def copy(checkpoint: Path, to: Path) -> Path:
    return Path(shutil.copytree(checkpoint, to))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for shard in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(shard).items()}


def read_json(file: Path) -> Any:
    return json.loads(file.read_text())


def edit_json(file: Path, edit: Callable[[Any], None]) -> None:
    content = read_json(file)
    edit(content)
    file.write_text(json.dumps(content))


def shard_of(folder: Path, tensor: str) -> Path:
    return folder / read_json(folder / INDEX)["weight_map"][tensor]


def set_tensor(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Replace a tensor, add one, or take it out of both its shard and the index."""
    weight_map = read_json(folder / INDEX)["weight_map"]
    shard = folder / weight_map.get(name, min(weight_map.values()))
    found = load_file(shard)
    found.pop(name, None)
    weight_map.pop(name, None)
    if value is not None:
        found[name] = value
        weight_map[name] = shard.name
    save_file(found, shard, metadata={"format": "pt"})
    edit_json(folder / INDEX, lambda index: index.update(weight_map=weight_map))


def change_tensor(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    set_tensor(folder, name, change(load_file(shard_of(folder, name))[name]))


def edit_header(shard: Path, edit: Callable[[str], str]) -> None:
    """Change the text of a shard's header; what follows stays."""
    data = shard.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = edit(data[8:end].decode()).encode()
    shard.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])


def flip_byte(folder: Path, name: str, byte: int = 0, bits: int = 0x01) -> None:
    """Change one byte of a tensor where it lies."""
    shard = shard_of(folder, name)
    data = bytearray(shard.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    start = json.loads(data[8:end])[name]["data_offsets"][0]
    data[end + start + byte] ^= bits
    shard.write_bytes(data)

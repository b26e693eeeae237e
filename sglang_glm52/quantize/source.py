"""The checkpoint that is read: its config, its shards' headers, and the small files beside them. No values are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import CheckpointError, ConfigError
from sglang_glm52.quantize.plan import published_tensors
from sglang_glm52.quantize.problems import Problems
from sglang_glm52.quantize.shards import INDEX_FILE, TensorInfo, read_header

CONFIG_FILE = "config.json"
NO_SHARD = "model.safetensors"  # where tensors are said to lie if there is a config.json alone
_PICKLES = ("*.bin", "*.pt", "*.pth")
_SMALL_FILES = (".json", ".jinja", ".model", ".py", ".tiktoken", ".txt")  # tokenizer, template, generation settings


@dataclass(frozen=True, slots=True)
class Located:
    """A tensor and where its bytes are."""

    info: TensorInfo
    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint folder. Without weights, `tensors` come from config.json alone and cannot be read."""

    folder: Path
    config: Mapping[str, Any]
    arch: Glm52Arch
    tensors: Mapping[str, Located]
    small_files: tuple[str, ...]  # copied as they are
    has_weights: bool

    @property
    def form(self) -> str:
        return "fp8" if self.arch.quant else "bf16"

    @property
    def files(self) -> tuple[str, ...]:
        """The shards, by name."""
        return tuple(sorted({located.file for located in self.tensors.values()}))


def open_source(folder: Path, *, may_lack_weights: bool = False) -> Source:
    """Read config.json and all headers of `folder`.

    Raises:
        CheckpointError: no config.json or no safetensors; a shard that is missing, cut short or not in the index; a
            tensor that lies in two shards, or not where the index says.
        ConfigError: a model or a quantisation that cannot be converted.
    """
    arch = Glm52Arch.from_checkpoint(folder)
    if arch.has_int4_experts:
        raise ConfigError(
            f"{folder} is quantised already (quant_method {arch.quant.method!r}); name the FP8 or BF16 checkpoint"
        )
    files = _shards(folder)
    if not files and not may_lack_weights:
        raise CheckpointError(f"{folder} holds no *.safetensors; download the weights as well")
    return Source(
        folder=folder,
        config=json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")),
        arch=arch,
        tensors=_located(folder, files) if files else _imagined(arch),
        small_files=_small_files(folder),
        has_weights=bool(files),
    )


def _imagined(arch: Glm52Arch) -> dict[str, Located]:
    return {info.name: Located(info, NO_SHARD, 0) for info in published_tensors(arch)}


def _small_files(folder: Path) -> tuple[str, ...]:
    files = sorted(file.name for file in folder.iterdir() if file.is_file() and file.suffix in _SMALL_FILES)
    return tuple(name for name in files if name != CONFIG_FILE and not name.endswith(".index.json"))


def _shards(folder: Path) -> list[str]:
    """Names of the shards; those in the index must all be there, and no others."""
    present = sorted(file.name for file in folder.glob("*.safetensors"))
    if not present and (pickles := sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))):
        raise CheckpointError(
            f"{folder} holds pickle files ({', '.join(pickles[:3])}) and no safetensors; "
            f"pickles can run code when read: download the safetensors, or save the model with safe_serialization"
        )
    if not (folder / INDEX_FILE).exists():
        return present
    listed = set(_weight_map(folder).values())
    problems = Problems()
    for name in sorted(listed - set(present)):
        problems.add("missing", f"{name}, which {INDEX_FILE} names")
    for name in sorted(set(present) - listed):
        problems.add("unexpected", f"{name}, which {INDEX_FILE} does not name")
    problems.raise_if_any(f"the shards in {folder} are not those of its index; download it again")
    return present


def _weight_map(folder: Path) -> dict[str, str]:
    file = folder / INDEX_FILE
    try:
        weight_map = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(shard) for name, shard in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is not JSON with a weight_map ({error!r}); download it again") from error
    for name, shard in names.items():
        if Path(shard).name != shard or Path(shard).suffix != ".safetensors":
            raise CheckpointError(f"{file} puts {name} in {shard!r}, expected a *.safetensors file beside it")
    return names


def _located(folder: Path, files: list[str]) -> dict[str, Located]:
    """Every tensor of the shards; CheckpointError if one lies twice, or the index disagrees."""
    tensors: dict[str, Located] = {}
    problems = Problems()
    for file in files:
        for info, offset in read_header(folder / file):
            if info.name in tensors:
                problems.add("twice", f"{info.name} in {tensors[info.name].file} and in {file}")
            tensors[info.name] = Located(info, file, offset)
    if (folder / INDEX_FILE).exists():
        weight_map = _weight_map(folder)
        for name in sorted(weight_map.keys() | tensors.keys()):
            lies, listed = tensors.get(name), weight_map.get(name)
            if lies is None or lies.file != listed:
                problems.add("index", f"{name} is listed in {listed}, found in {lies.file if lies else None}")
    problems.raise_if_any(f"the shards in {folder} contradict each other or the index; download it again")
    return tensors

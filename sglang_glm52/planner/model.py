"""The checkpoint that is planned for: its numbers and its tensors' shapes and types, without their values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.arch_quant import GROUP_SIZE, WEIGHT_BLOCK
from sglang_glm52.bench.shard_config import PUBLISHED
from sglang_glm52.errors import ConfigError
from sglang_glm52.quantize.plan import make_plan, published_tensors
from sglang_glm52.quantize.problems import Problems
from sglang_glm52.quantize.shards import TensorInfo, read_header

# form -> the published checkpoint
PRESETS = {"w4afp8": "PhalaCloud/GLM-5.2-W4AFP8", "fp8": "zai-org/GLM-5.2-FP8", "bf16": "zai-org/GLM-5.2"}


@dataclass(frozen=True, slots=True)
class Model:
    """`path` is what --model-path takes; `source` says where the tensors' shapes are from."""

    path: str
    form: str  # "bf16", "fp8" or "w4afp8"
    arch: Glm52Arch
    tensors: tuple[TensorInfo, ...]
    source: str

    @property
    def checkpoint_bytes(self) -> int:
        return sum(info.nbytes for info in self.tensors)


@cache
def preset_model(form: str) -> Model:
    """The published model in `form`, from the config.json built into this package; ConfigError if there is none."""
    if form not in PRESETS:
        raise ConfigError(f"--preset {form}: unknown; expected one of {', '.join(PRESETS)}")
    arch = Glm52Arch.from_config({**PUBLISHED, "quantization_config": _quantization(form)})
    return Model(PRESETS[form], form, arch, described_tensors(arch), "the published config.json")


def read_model(path: Path) -> Model:
    """A checkpoint folder, or a config.json alone.

    Raises:
        CheckpointError: no config.json; a damaged shard; shards that lack tensors the config describes.
        ConfigError: another architecture or quantisation.
    """
    folder = path.parent if path.name == "config.json" else path
    arch = Glm52Arch.from_checkpoint(folder)
    described = described_tensors(arch)
    form = arch.quant.method if arch.quant else "bf16"
    shards = () if path.name == "config.json" else sorted(folder.glob("*.safetensors"))
    if not shards:
        return Model(str(folder), form, arch, described, "config.json")
    found = {info.name: info for shard in shards for info, _ in read_header(shard)}
    problems = Problems()
    for name in sorted({info.name for info in described} - found.keys()):
        problems.add("missing", name)
    problems.raise_if_any(f"{folder} is incomplete; download the rest, or plan from {folder / 'config.json'} alone")
    return Model(str(folder), form, arch, tuple(found.values()), f"the headers of {len(shards)} shards")


def described_tensors(arch: Glm52Arch) -> tuple[TensorInfo, ...]:
    """What a checkpoint with this config.json holds, the MTP layer included; int4 groups have bf16 scales."""
    if not arch.has_int4_experts:
        return tuple(published_tensors(arch))
    fp8 = replace(arch, quant=replace(arch.quant, method="fp8", group_size=None))
    return tuple(_outputs(fp8, published_tensors(fp8)))


def _outputs(arch: Glm52Arch, tensors: Iterable[TensorInfo]) -> Iterable[TensorInfo]:
    return (info for step in make_plan(arch, tensors) for info in step.outputs)


def _quantization(form: str) -> dict[str, Any] | None:
    if form == "bf16":
        return None
    section: dict[str, Any] = {"quant_method": form, "weight_block_size": list(WEIGHT_BLOCK)}
    return section | ({"group_size": GROUP_SIZE} if form == "w4afp8" else {})

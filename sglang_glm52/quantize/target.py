"""The checkpoint that is written, known to the byte before any of it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.arch_quant import GROUP_SIZE, WEIGHT_BLOCK
from sglang_glm52.quantize.plan import Step, make_plan
from sglang_glm52.quantize.published_form import unconverted_modules
from sglang_glm52.quantize.shards import INDEX_FILE, Layout, lay_out
from sglang_glm52.quantize.source import CONFIG_FILE, Source, open_source


@dataclass(frozen=True, slots=True)
class OutputShard:
    file: str
    steps: tuple[Step, ...]  # in the order in which their weights lie in the source
    layout: Layout

    @property
    def source_bytes(self) -> int:
        return sum(step.source_bytes for step in self.steps)


@dataclass(frozen=True, slots=True)
class Target:
    """Every file of the checkpoint; the report and the picture come on top."""

    steps: tuple[Step, ...]  # in checkpoint order
    shards: tuple[OutputShard, ...]
    texts: Mapping[str, bytes]  # config.json and the index
    copies: Mapping[str, int]  # small file of the source -> its bytes

    @property
    def source_bytes(self) -> int:
        """Of the tensors, without headers."""
        return sum(step.source_bytes for step in self.steps)

    @property
    def sizes(self) -> dict[str, int]:
        """File -> bytes."""
        shards = {shard.file: shard.layout.file_bytes for shard in self.shards}
        return shards | {file: len(text) for file, text in self.texts.items()} | dict(self.copies)

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes.values())


def plan_conversion(folder: Path, *, may_lack_weights: bool = False) -> tuple[Source, Target]:
    """Read and check all headers of a checkpoint, decide what is written; errors as in `open_source`, `make_plan`."""
    source = open_source(folder, may_lack_weights=may_lack_weights)
    steps = make_plan(source.arch, (located.info for located in source.tensors.values()))
    return source, make_target(source, steps)


def make_target(source: Source, steps: Sequence[Step]) -> Target:
    """Shards keep the source's names and contents: what is written for a weight lies where the weight lay.

    A shard that held nothing but scales of other shards' experts is not written.
    """
    by_file: dict[str, list[Step]] = {}
    for step in sorted(steps, key=lambda step: source.tensors[step.weight.name].offset):
        by_file.setdefault(source.tensors[step.weight.name].file, []).append(step)
    shards = tuple(
        OutputShard(file, tuple(found), lay_out(info for step in found for info in step.outputs))
        for file, found in sorted(by_file.items())
    )
    return Target(
        steps=tuple(steps),
        shards=shards,
        texts={CONFIG_FILE: _json_bytes(_config(source)), INDEX_FILE: _json_bytes(_index(shards))},
        copies={name: (source.folder / name).stat().st_size for name in source.small_files},
    )


def quantization_section(arch: Glm52Arch) -> dict[str, Any]:
    """`quantization_config` of the output. The host reads `quant_method` alone and takes the rest for granted."""
    unconverted = list(arch.quant.modules_to_not_convert) if arch.quant else unconverted_modules(arch)
    return {
        "activation_scheme": "dynamic",
        "group_size": GROUP_SIZE,
        "modules_to_not_convert": unconverted,
        "quant_method": "w4afp8",
        "weight_block_size": list(WEIGHT_BLOCK),
    }


def _config(source: Source) -> dict[str, Any]:
    return {**source.config, "quantization_config": quantization_section(source.arch)}


def _index(shards: Sequence[OutputShard]) -> dict[str, Any]:
    weight_map = {info.name: shard.file for shard in shards for step in shard.steps for info in step.outputs}
    total = sum(step.output_bytes for shard in shards for step in shard.steps)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()

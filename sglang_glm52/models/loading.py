"""Streams a BF16, FP8 or W4AFP8 checkpoint into the parameters of this rank.

Tensors come in any order. Each is checked against the model's numbers before it is copied; whatever is wrong is
collected, and the load ends with one error that lists it all. A quantised weight whose parameter is not (the CPU
engine, or a module the checkpoint leaves unquantised) is dequantised once its scales have arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from sglang.srt.model_loader.weight_utils import default_weight_loader

from sglang_glm52.env import settings
from sglang_glm52.errors import CheckpointError
from sglang_glm52.models import input_scales
from sglang_glm52.models.input_scales import InputScales
from sglang_glm52.models.name_ranges import fold_names
from sglang_glm52.models.storage import Storage, scale_problem, storage_of, weight_problem
from sglang_glm52.models.weights import BLOCK, SCALE_SUFFIX, Part, Target, target_of

if TYPE_CHECKING:
    from sglang_glm52.arch import Glm52Arch


def load_checkpoint(
    model: torch.nn.Module, arch: Glm52Arch, part: Part, weights: Iterable[tuple[str, torch.Tensor]], *, complete: bool
) -> None:
    """Copy every tensor to its parameter.

    Args:
        model: has parameters named as the tensors of `part`, or as `target_of` maps those names.
        weights: (checkpoint name, full unsharded tensor) pairs.
        complete: a tensor that does not come is an error; False for an update of some weights, whose quantised ones may
            come without their scales, and scales without them, where the parameters are quantised too.

    Raises:
        CheckpointError: lists each missing, unexpected, mis-shaped, mis-typed or repeated tensor by name.
    """
    stream = _Stream(model, arch, part)
    for name, tensor in weights:
        stream.take(name, tensor)
    stream.finish(complete)


class _Stream:
    def __init__(self, model: torch.nn.Module, arch: Glm52Arch, part: Part) -> None:
        self.arch, self.part, self.expected = arch, part, part.shapes
        self.params = dict(model.named_parameters())
        self.seen: set[str] = set()  # names of weights and their scales that belong here, right or wrong
        self.quantised: set[str] = set()  # weights
        self.waiting: dict[str, torch.Tensor] = {}  # half of a pair that is to be dequantised
        self.input_scales = InputScales()
        self.problems: dict[str, list[str]] = {"missing": [], "unexpected": [], "wrong": []}

    def take(self, name: str, tensor: torch.Tensor) -> None:
        if name.endswith(input_scales.SUFFIX):
            self._take_input_scale(name, tensor)
            return
        weight_name = name.removesuffix(SCALE_SUFFIX)
        if weight_name not in self.expected:
            if not self.part.is_elsewhere(name):
                self.problems["unexpected"].append(name)
            return
        storage = storage_of(self.arch, weight_name)
        problem = self._problem(storage, weight_name, name, tensor)
        self.seen.add(name)
        if name == weight_name and tensor.dtype == storage.dtype:
            self.quantised.add(name)
        if problem:
            self.problems["wrong"].append(f"{name} {problem}")
        else:
            self._place(storage, weight_name, name, tensor)

    def _take_input_scale(self, name: str, tensor: torch.Tensor) -> None:
        weight_name = input_scales.weight_of(name)
        if weight_name not in self.expected or storage_of(self.arch, weight_name).is_optional:
            if not self.part.is_elsewhere(name):
                self.problems["unexpected"].append(name)
            return
        problem = self.input_scales.take(name, tensor)
        if problem:
            self.problems["wrong"].append(f"{name} {problem}")

    def _problem(self, storage: Storage, weight_name: str, name: str, tensor: torch.Tensor) -> str:
        """What stands against using a weight or its scale, "" if nothing does."""
        shape = self.expected[weight_name]
        if name in self.seen:
            return "comes twice"
        if name != weight_name:
            return scale_problem(storage, shape, tensor)
        may_be_plain = storage.is_optional and self._weight_param(name).dtype != storage.dtype
        return weight_problem(storage, shape, tensor, may_be_plain)

    def _weight_param(self, weight_name: str) -> torch.nn.Parameter:
        return self.params[target_of(weight_name).param]

    def _place(self, storage: Storage, weight_name: str, name: str, tensor: torch.Tensor) -> None:
        is_scale = name != weight_name
        if self._weight_param(weight_name).dtype == storage.dtype or not (is_scale or tensor.dtype == storage.dtype):
            self._copy(target_of(name), tensor)
        elif weight_name not in self.waiting:
            self.waiting[weight_name] = tensor.clone()  # the host may reuse the buffer it streams through
        else:
            other = self.waiting.pop(weight_name)
            weight, scale = (other, tensor) if is_scale else (tensor, other)
            if weight.dtype == storage.dtype:
                self._copy(target_of(weight_name), storage.dequantize(weight, scale))

    def _copy(self, target: Target, tensor: torch.Tensor) -> None:
        param = self.params[target.param]
        if target.fused_a is not None:
            _copy_rows(param, tensor, self._first_row(target))
        elif target.expert_id is not None:
            param.weight_loader(param, tensor, target.param, shard_id=target.shard, expert_id=target.expert_id)
        elif target.shard is not None:
            param.weight_loader(param, tensor, target.shard)
        else:
            getattr(param, "weight_loader", default_weight_loader)(param, tensor)

    def _first_row(self, target: Target) -> int:
        if target.fused_a == "q_a_proj":
            return 0
        return self.arch.q_lora_rank // (BLOCK if target.param.endswith(SCALE_SUFFIX) else 1)

    def finish(self, complete: bool) -> None:
        scaled = {name.removesuffix(SCALE_SUFFIX) for name in self.seen if name.endswith(SCALE_SUFFIX)}
        if complete:
            self.problems["missing"] += sorted(self.expected.keys() - self.seen)
            self.problems["missing"] += sorted(name + SCALE_SUFFIX for name in self.quantised - scaled)
        else:
            self.problems["missing"] += sorted(self._lone_halves())
        self.problems["unexpected"] += sorted(
            f"{name}{SCALE_SUFFIX} (its weight is not quantised)" for name in (scaled & self.seen) - self.quantised
        )
        if complete and self.arch.has_int4_experts and settings().activation == "static":
            self.problems["missing"] += self.input_scales.missing(self.expected)
            self.problems["wrong"] += self.input_scales.left_at_one()
        for param, value in self.input_scales.largest().items():
            if param in self.params:  # only experts that scale their inputs statically have it
                self.params[param].data.fill_(value)
        if any(self.problems.values()):
            raise CheckpointError(_describe(self.problems))

    def _lone_halves(self) -> Iterator[str]:
        """What an update would have to bring beside what is waiting; other pairs may come in different calls."""
        for name in self.waiting:
            other = name + SCALE_SUFFIX if name in self.quantised else name
            if other not in self.seen:
                yield f"{other} (in the same call: both are needed to dequantise the weight)"


def _copy_rows(param: torch.nn.Parameter, tensor: torch.Tensor, first: int) -> None:
    param.data[first : first + tensor.shape[0]].copy_(tensor)


def _describe(problems: dict[str, list[str]]) -> str:
    lines = ["the checkpoint does not fit the model its config.json describes; convert or download it again"]
    for kind, found in problems.items():
        lines += [f"  {kind}: {line}" for line in fold_names(found)]
    return "\n".join(lines)

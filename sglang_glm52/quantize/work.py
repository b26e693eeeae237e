"""Carries out one step of the plan: reads the weight slab by slab, writes what it becomes, and measures the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch

from sglang_glm52.errors import CheckpointError
from sglang_glm52.formats.fp8_block import BLOCK, dequantize_fp8_block, quantize_fp8_block
from sglang_glm52.formats.int4_group import METHODS, WeightError, squared_sum
from sglang_glm52.quantize.int4_slab import errors_of, quantize_int4_slab
from sglang_glm52.quantize.lane import lane_on
from sglang_glm52.quantize.plan import Action, Step
from sglang_glm52.quantize.shards import TensorInfo
from sglang_glm52.quantize.tensor_io import TORCH_TYPES, ShardWriter, TensorReader, chunks, slabs

FP8_METHOD = "fp8_block"  # under which the error of FP8 blocks stands
_FP8_NAN = 0x7F  # e4m3fn has no infinity
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known about one converted weight."""

    errors: Mapping[str, WeightError]  # by method, the chosen one and the others
    digests: Mapping[str, str]  # written tensor -> hash of its bytes


class StoredSlab(NamedTuple):
    """Some rows of a weight, as they are stored."""

    rows: range
    weight: torch.Tensor
    block_scale: torch.Tensor | None  # of its FP8 blocks


@dataclass(frozen=True, slots=True)
class Job:
    """How weights are converted."""

    method: str
    device: torch.device


def carry_out(step: Step, job: Job, reader: TensorReader, writer: ShardWriter) -> Figures | None:
    """Write the outputs of one step; None for a copy, which has no error.

    Raises:
        CheckpointError: a weight or a scale holds NaN or infinity.
    """
    with lane_on(job.device).entered():
        return _ACTIONS[step.action](step, job, reader, writer)


def stored_slabs(step: Step, reader: TensorReader, device: torch.device) -> Iterator[StoredSlab]:
    """The weight part by part. Within the thread's lane on `device`."""
    lane, scale = lane_on(device), None
    if len(step.sources) > 1:
        scale = reader.matrix(step.sources[1].name)
        refuse_not_finite(step.sources[1], scale)
        scale = lane.upload(scale)
    for rows in slabs(step.weight, device):
        weight = lane.upload(reader.rows(step.weight.name, rows, lane.buffer))
        blocks = slice(rows.start // BLOCK, -(-rows.stop // BLOCK))
        yield StoredSlab(rows, weight, None if scale is None else scale[blocks])


def weight_slabs(step: Step, reader: TensorReader, device: torch.device) -> Iterator[tuple[range, torch.Tensor]]:
    """(rows, those rows of the weight): float32 from FP8, else as stored. Within the thread's lane on `device`."""
    for rows, weight, block_scale in stored_slabs(step, reader, device):
        yield rows, weight if block_scale is None else dequantize_fp8_block(weight, block_scale)


def fp8_error(weight: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> WeightError:
    """Hold a matrix against its FP8 blocks, summed in float64."""
    exact = weight.double()
    error = exact - dequantize_fp8_block(q, scale).double()
    return WeightError(*torch.stack((squared_sum(error), squared_sum(exact))).tolist())


def refuse_not_finite(info: TensorInfo, values: torch.Tensor) -> None:
    """CheckpointError if `values`, all or a part of that tensor, are not all finite."""
    if values.dtype == torch.float8_e4m3fn:
        is_finite = not ((values.view(torch.uint8) & _FP8_NAN) == _FP8_NAN).any()
    else:
        is_finite = torch.isfinite(values).all()
    if not is_finite:
        raise CheckpointError(f"{info.name} holds NaN or infinity; download the checkpoint again or repair it")


def _copy(step: Step, job: Job, reader: TensorReader, writer: ShardWriter) -> None:
    out = writer.tensor(step.weight.name)
    for where in chunks(step.weight):
        data = reader.read(step.weight.name, where)
        refuse_not_finite(step.weight, data.view(TORCH_TYPES[step.weight.dtype]))
        out.append(data)


def _to_int4(step: Step, job: Job, reader: TensorReader, writer: ShardWriter) -> Figures:
    """Every method is tried, so that the report can say what the chosen one costs or gains."""
    errors = dict.fromkeys(METHODS, WeightError(0.0, 0.0))
    packed, scale = (writer.tensor(info.name) for info in step.outputs)
    lane = lane_on(job.device)
    for _, weight, block_scale in stored_slabs(step, reader, job.device):
        *parts, sums = lane.download(quantize_int4_slab(weight, job.method, block_scale))
        found = _named(step, errors_of, sums)
        errors = {method: error + found[method] for method, error in errors.items()}
        packed.append(parts[0])
        scale.append(parts[1])
    return Figures(errors, _digests(step, packed.digest, scale.digest))


def _to_fp8(step: Step, job: Job, reader: TensorReader, writer: ShardWriter) -> Figures:
    error = WeightError(0.0, 0.0)
    q_out, scale_out = (writer.tensor(info.name) for info in step.outputs)
    lane = lane_on(job.device)
    for _, weight in weight_slabs(step, reader, job.device):
        q, scale = _named(step, quantize_fp8_block, weight)
        error += fp8_error(weight, q, scale)
        q, scale = lane.download((q, scale))
        q_out.append(q)
        scale_out.append(scale)
    return Figures({FP8_METHOD: error}, _digests(step, q_out.digest, scale_out.digest))


def _digests(step: Step, *digests: str) -> dict[str, str]:
    return {info.name: digest for info, digest in zip(step.outputs, digests, strict=True)}


def _named(step: Step, work: Callable[[torch.Tensor], Result], values: torch.Tensor) -> Result:
    """work(values); what is wrong with the values is told with the tensor's name."""
    try:
        return work(values)
    except ValueError as error:
        raise CheckpointError(f"{step.weight.name}: {error}") from error


_ACTIONS: dict[Action, Callable[[Step, Job, TensorReader, ShardWriter], Figures | None]] = {
    Action.COPY: _copy,
    Action.INT4: _to_int4,
    Action.FP8: _to_fp8,
}

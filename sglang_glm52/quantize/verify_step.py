"""Holds what was written for one weight to the source, byte by byte or by its error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from sglang_glm52.formats.fp8_block import BLOCK
from sglang_glm52.formats.int4_group import WeightError, weight_error
from sglang_glm52.quantize.plan import Action, Step
from sglang_glm52.quantize.report import HASH
from sglang_glm52.quantize.tensor_io import Digest, TensorReader, chunks, raw_bytes
from sglang_glm52.quantize.work import FP8_METHOD, fp8_error, weight_slabs

# Of the error itself. It stands in the report with six digits, and a GPU may add its terms up in another order.
_TOLERANCE = 1e-5
_CPU = torch.device("cpu")

Problem = tuple[str, str]  # kind, sentence
Difference = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], WeightError]


def check_step(step: Step, report: Mapping[str, Any], source: TensorReader, output: TensorReader) -> list[Problem]:
    """What is wrong with the outputs of a step; the source's values are taken as right."""
    if step.action is Action.COPY:
        return list(_check_copy(step, source, output))
    return list(_check_converted(step, report, source, output))


def _check_copy(step: Step, source: TensorReader, output: TensorReader) -> Iterator[Problem]:
    name = step.weight.name
    for where in chunks(step.weight):
        differs = source.read(name, where) != output.read(name, where)
        if differs.any():
            first = where.start + int(differs.nonzero()[0])
            yield "differs", f"{name} from byte {first} on is not what the source has"
            return


def _check_converted(
    step: Step, report: Mapping[str, Any], source: TensorReader, output: TensorReader
) -> Iterator[Problem]:
    name = step.weight.name
    try:
        method = report["arguments"]["method"] if step.action is Action.INT4 else FP8_METHOD
        expected = report["tensors"][name]["error"][method]
        hashes = {info.name: report["tensors"][name][HASH][info.name] for info in step.outputs}
    except KeyError as error:
        yield "report", f"it says nothing of {name}, or lacks the field {error}"
        return
    error, digests = _measure(step, source, output)
    for written, digest in digests.items():
        if hashes[written] != digest:
            yield "changed", f"{written} is not what was written: the report has another hash of its bytes"
    if not abs(error.relative - expected) <= _TOLERANCE * expected:  # written so that NaN is a problem too
        yield "error", f"{name} is {error.relative:.6g} away from the source, the report says {expected:.6g}"


def _measure(step: Step, source: TensorReader, output: TensorReader) -> tuple[WeightError, dict[str, str]]:
    """The error as decoded from the output, and the hashes of the output's tensors."""
    total = WeightError(0.0, 0.0)
    digests = {info.name: Digest() for info in step.outputs}
    error: Difference = weight_error if step.action is Action.INT4 else fp8_error
    for rows, weight in weight_slabs(step, source, _CPU):
        parts = [output.rows(info.name, _rows_of(info.shape[0], step.weight.shape[0], rows)) for info in step.outputs]
        for digest, part in zip(digests.values(), parts, strict=True):
            digest.update(raw_bytes(part))
        total += error(weight, *parts)
    return total, {name: digest.text for name, digest in digests.items()}


def _rows_of(output_rows: int, weight_rows: int, rows: range) -> range:
    """The rows of an output that belong to `rows` of the weight: as many, or one for each block of 128."""
    if output_rows == weight_rows:
        return rows
    return range(rows.start // BLOCK, -(-rows.stop // BLOCK))

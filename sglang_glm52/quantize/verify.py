"""Holds a converted checkpoint to its source: every file, every tensor, every number in config and index."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sglang_glm52.errors import CheckpointError, ConfigError
from sglang_glm52.quantize.fingerprint import fingerprint
from sglang_glm52.quantize.plan import Action, Step
from sglang_glm52.quantize.pool import num_workers, one_torch_thread, run_all
from sglang_glm52.quantize.problems import Problems
from sglang_glm52.quantize.progress import Progress
from sglang_glm52.quantize.report import read_report
from sglang_glm52.quantize.resume import WORK_FOLDER
from sglang_glm52.quantize.shards import read_header
from sglang_glm52.quantize.source import Located, Source
from sglang_glm52.quantize.target import OutputShard, Target, plan_conversion
from sglang_glm52.quantize.tensor_io import TensorReader
from sglang_glm52.quantize.verify_step import check_step


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `problems` has one line for each, by name."""

    problems: tuple[str, ...]
    copied: int  # tensors that were compared byte by byte
    converted: int  # weights that were decoded and compared by their error
    file_bytes: int

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(src: str | Path, dst: str | Path, workers: int | None = None) -> Verdict:
    """Compare all of `dst`, made by `convert`, with what it was made from; progress goes to stderr.

    Raises:
        CheckpointError, ConfigError: `src` is not a checkpoint that can be converted, or `dst` no folder.
    """
    src, dst = Path(src), Path(dst)
    workers = num_workers(workers)
    source, target = plan_conversion(src)
    if not dst.is_dir():
        raise ConfigError(f"{dst} is not a folder; name what glm52 quantize has written")
    problems = Problems()
    report = _checked_report(dst, source, problems)
    _check_files(source, target, dst, problems)
    steps, tensors = _readable_steps(target, dst, problems)
    if report is None:
        steps = [step for step in steps if step.action is Action.COPY]
    with (
        one_torch_thread(),
        Progress(sum(step.source_bytes for step in steps)) as progress,
        TensorReader(source.folder, source.tensors, on_read=progress.add) as before,
        TensorReader(dst, tensors) as after,
    ):
        work = partial(check_step, report=report, source=before, output=after)
        for kind, what in (found for several in run_all(work, steps, workers) for found in several):
            problems.add(kind, what)
    copied = sum(step.action is Action.COPY for step in steps)
    return Verdict(tuple(problems.lines()), copied, len(steps) - copied, target.total_bytes)


def _checked_report(dst: Path, source: Source, problems: Problems) -> Mapping[str, Any] | None:
    """None, and a problem, if there is no report: converted weights cannot be checked then."""
    try:
        report = read_report(dst)
    except CheckpointError as error:
        problems.add("report", str(error))
        return None
    if report["arguments"].get("source") != fingerprint(source):
        problems.add("report", f"it is of another source, {report['source'].get('name')}")
    return report


def _check_files(source: Source, target: Target, dst: Path, problems: Problems) -> None:
    """Names and sizes of all files, and the contents of the small ones."""
    if (dst / WORK_FOLDER).exists():
        problems.add("unfinished", f"{WORK_FOLDER} is still there; give the quantize command again")
    for file in sorted(dst.glob("*.safetensors")):
        if file.name not in target.sizes:
            problems.add("unexpected", f"{file.name}, which a server would load as well")
    for name, size in target.sizes.items():
        if not (dst / name).is_file():
            problems.add("missing", name)
        elif name in target.texts:
            _check_json(name, json.loads(target.texts[name]), dst, problems)
        elif (found := (dst / name).stat().st_size) != size:
            problems.add("size", f"{name} has {found} bytes, expected {size}")
        elif name in target.copies and (dst / name).read_bytes() != (source.folder / name).read_bytes():
            problems.add("differs", f"{name} is not what the source has")


def _check_json(name: str, expected: Mapping[str, Any], dst: Path, problems: Problems) -> None:
    """By field: how the text is set does not matter."""
    try:
        found = json.loads((dst / name).read_text(encoding="utf-8"))
    except ValueError as error:
        problems.add("config", f"{name} is not JSON ({error})")
        return
    if not isinstance(found, dict):
        problems.add("config", f"{name} holds a JSON {type(found).__name__}, not an object")
        return
    flat, wanted = _flat(found), _flat(expected)
    for field in sorted(flat.keys() | wanted.keys()):
        values = [reprlib.repr(fields[field]) if field in fields else "absent" for fields in (flat, wanted)]
        if flat.get(field, ...) != wanted.get(field, ...):
            problems.add("config", f"{name}: {field} is {values[0]}, expected {values[1]}")


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a JSON object, those of objects one level down under "outer.inner"."""
    fields = {}
    for key, value in content.items():
        inner = value.items() if isinstance(value, dict) else ()
        fields |= {f"{key}.{name}": item for name, item in inner} or {key: value}
    return fields


def _readable_steps(target: Target, dst: Path, problems: Problems) -> tuple[list[Step], dict[str, Located]]:
    """Steps whose outputs are all where they should be, and those tensors' places; the others are problems."""
    tensors: dict[str, Located] = {}
    for shard in target.shards:
        tensors |= _shard_tensors(shard, dst, problems)
    steps = [step for shard in target.shards for step in shard.steps]
    return [step for step in steps if all(info.name in tensors for info in step.outputs)], tensors


def _shard_tensors(shard: OutputShard, dst: Path, problems: Problems) -> dict[str, Located]:
    if not (dst / shard.file).is_file():
        return {}  # reported with the other missing files
    try:
        found = {info.name: Located(info, shard.file, offset) for info, offset in read_header(dst / shard.file)}
    except CheckpointError as error:
        problems.add("broken", str(error))
        return {}
    wanted = {info.name: info for step in shard.steps for info in step.outputs}
    for name in sorted(found.keys() | wanted.keys()):
        info = found[name].info if name in found else None
        if info != wanted.get(name):
            problems.add("header", f"{shard.file}: {name} is {_text(info)}, expected {_text(wanted.get(name))}")
    return {name: located for name, located in found.items() if located.info == wanted.get(name)}


def _text(info: Any) -> str:
    return f"{info.dtype} {list(info.shape)}" if info else "absent"

"""From an FP8 or BF16 checkpoint to W4AFP8: plan, check all, write shard by shard, then index, config and report.

Stopped at any point it leaves whole shards and no config.json, so that nothing loads half a model; the same call goes
on where it stopped and ends with the bytes of an undisturbed run, whatever the number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from sglang_glm52 import __version__
from sglang_glm52.errors import CheckpointError, ConfigError
from sglang_glm52.formats.int4_group import METHODS
from sglang_glm52.quantize.destination import check_destination, check_space, has_size
from sglang_glm52.quantize.durable import disk_errors_named
from sglang_glm52.quantize.fingerprint import fingerprint
from sglang_glm52.quantize.plan import Step
from sglang_glm52.quantize.plot import PICTURE_FILE, picture
from sglang_glm52.quantize.pool import MAX_DEFAULT, MAX_DEFAULT_GPU, num_workers, one_torch_thread, run_all
from sglang_glm52.quantize.progress import GB, Progress, say
from sglang_glm52.quantize.report import REPORT_FILE, make_report, read_report, report_bytes
from sglang_glm52.quantize.resume import Arguments, WorkFolder
from sglang_glm52.quantize.shard_work import ShardWork, in_turns
from sglang_glm52.quantize.source import Source
from sglang_glm52.quantize.target import OutputShard, Target, plan_conversion
from sglang_glm52.quantize.tensor_io import ShardWriter, TensorReader
from sglang_glm52.quantize.work import Figures, Job, carry_out

DEVICES = ("auto", "cpu", "cuda")


def convert(
    src: str | Path,
    dst: str | Path,
    method: str = "mse",
    device: str = "auto",
    workers: int | None = None,
    with_picture: bool = False,
) -> dict[str, Any]:
    """Write the W4AFP8 form of the checkpoint `src` to `dst`; progress goes to stderr.

    Args:
        dst: absent, empty, or left by a stopped call with the same `src`, `method` and `device`.
        method: a name in `METHODS`. device: "auto", "cpu" or "cuda".
        workers: threads, by default one a CPU core, at most 32, on a GPU 16. Each takes some 50 MB; on a GPU up to
            64 MB of pinned memory and under a GB of the GPU's.
        with_picture: also write quantize_error.png; without matplotlib say so on stderr and leave it out.

    Returns:
        The report, as in quantize_report.json.

    Raises:
        CheckpointError: something is wrong with the source; each tensor or file is named.
        ConfigError: an argument, or `dst` cannot be used.
        CapacityError: the disk is or would be full.
    """
    src, dst = Path(src), Path(dst)
    job = _job(method, device)
    workers = num_workers(workers, MAX_DEFAULT_GPU if job.device.type == "cuda" else MAX_DEFAULT)
    source, target = plan_conversion(src)
    check_destination(src, dst, target.sizes)
    arguments = Arguments(method, job.device.type, __version__, fingerprint(source))
    report = _finished_before(dst, target, arguments)
    check_space(dst, target.sizes)
    with disk_errors_named(dst), WorkFolder(dst, arguments) as work:
        if report is None:
            with one_torch_thread():
                figures = _write_shards(source, target, job, workers, work)
            report = _finish(source, target, arguments, figures, work)
        if with_picture and not (dst / PICTURE_FILE).is_file():
            _draw(report, work)
        work.remove()
    return report


def _job(method: str, device: str) -> Job:
    if method not in METHODS:
        raise ConfigError(f"--method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if device not in DEVICES:
        raise ConfigError(f"--device {device!r} is unknown; choose one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Job(method, torch.device(device))


def _finished_before(dst: Path, target: Target, arguments: Arguments) -> dict[str, Any] | None:
    """The report of an earlier call that wrote all files, None if there was none."""
    if not (dst / REPORT_FILE).is_file():
        return None
    report = read_report(dst)
    arguments.refuse_others(report["arguments"], dst)
    wrong = [name for name, size in target.sizes.items() if not has_size(dst / name, size)]
    if wrong:
        raise CheckpointError(
            f"{dst} is finished, but since then {', '.join(wrong[:5])} went missing or changed size; "
            f"remove the folder and quantise again"
        )
    return report


def _write_shards(source: Source, target: Target, job: Job, workers: int, work: WorkFolder) -> dict[str, Figures]:
    """Write those shards that no earlier call has finished; figures of all converted weights."""
    figures: dict[str, Figures] = {}
    waiting: list[OutputShard] = []
    for shard in target.shards:
        done = work.finished(shard.file, shard.layout.file_bytes)
        waiting += [shard] if done is None else []
        figures |= done or {}
    total, start = sum(shard.source_bytes for shard in waiting), time.monotonic()
    with Progress(total) as progress:
        if len(waiting) < len(target.shards):
            say(f"{len(target.shards) - len(waiting)} of {len(target.shards)} shards were finished by an earlier call")
        with TensorReader(source.folder, source.tensors, on_read=progress.add) as reader:
            for shard in _carried_out(waiting, job, workers, reader, work):
                figures |= shard.figures
    if waiting:
        seconds = time.monotonic() - start
        say(f"{total / GB:.2f} GB of the source in {seconds:.1f} s, {total / GB / seconds:.3f} GB/s")
    return figures


def _carried_out(
    shards: Sequence[OutputShard], job: Job, workers: int, reader: TensorReader, work: WorkFolder
) -> list[ShardWork]:
    """The shards' work, all done and published. After an error those are that were whole."""

    def write(step: Step, writer: ShardWriter) -> Figures | None:
        return carry_out(step, job, reader, writer)

    with ExitStack() as stack:
        works = [stack.enter_context(ShardWork(shard, work, write)) for shard in shards]
        run_all(lambda task: task(), list(in_turns(works, workers)), workers)
    return works


def _finish(
    source: Source, target: Target, arguments: Arguments, figures: dict[str, Figures], work: WorkFolder
) -> dict[str, Any]:
    """Small files, then config and index; the report comes last and says that all is there."""
    for name in target.copies:
        work.write(name, (source.folder / name).read_bytes())
    for name, text in target.texts.items():
        work.write(name, text)
    report = make_report(source, target, arguments, figures)
    work.write(REPORT_FILE, report_bytes(report))
    return report


def _draw(report: dict[str, Any], work: WorkFolder) -> None:
    try:
        work.write(PICTURE_FILE, picture(report))
    except ModuleNotFoundError:
        say(f"no {PICTURE_FILE}: matplotlib is not installed; pip install 'sglang-glm52[plot]'")

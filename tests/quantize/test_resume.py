"""Stopped anywhere, a conversion leaves nothing half written, and the same call ends with the same bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from quantize.checkpoints import contents, copy

from sglang_glm52.errors import CapacityError, CheckpointError, ConfigError
from sglang_glm52.quantize import resume
from sglang_glm52.quantize.convert import convert
from sglang_glm52.quantize.resume import WORK_FOLDER

NUM_STOPS = 20


def finished_part(out: Path, whole: Path) -> dict[str, bytes]:
    """Files under their final names, each held to the undisturbed run's."""
    expected = contents(whole)
    found = {name: data for name, data in contents(out).items() if not name.startswith(WORK_FOLDER)}
    assert all(expected[name] == data for name, data in found.items())
    shards = {name for name in expected if name.endswith(".safetensors")}
    assert not {"config.json", "quantize_report.json"} & found.keys() or shards <= found.keys()
    return found


def run_quietly(src: Path, out: Path, workers: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    convert(src, out, device="cpu", workers=workers)


@pytest.fixture(scope="module")
def forks():
    """Starts processes that have imported everything already, so that they can be killed at any point of the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sglang_glm52.quantize.convert"])
    return context


@pytest.fixture(scope="module")
def undisturbed_seconds(fp8, forks, tmp_path_factory) -> float:
    for attempt in range(2):  # the first starts the server
        process = forks.Process(target=run_quietly, args=(fp8, tmp_path_factory.mktemp("timed") / str(attempt), 1))
        begin = time.monotonic()
        process.start()
        process.join()
        assert process.exitcode == 0
    return time.monotonic() - begin


def test_killed_at_random_points(fp8, from_fp8, tmp_path, forks, undisturbed_seconds):
    rng, seconds = random.Random(0), undisturbed_seconds
    stops, parts = 0, set()
    while stops < NUM_STOPS:
        out = tmp_path / f"{stops}-{seconds}"
        process = forks.Process(target=run_quietly, args=(fp8, out, 1 + stops % 2))
        process.start()
        time.sleep((stops + rng.random()) / NUM_STOPS * seconds)  # spread evenly over the run
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was faster than the run that was timed
            seconds *= 0.8
            continue
        stops += 1
        finished = len(finished_part(out, from_fp8)) if out.exists() else 0
        parts.add(finished)
        if finished == 0 and stops > NUM_STOPS // 2:  # the machine is busier than when it was timed
            seconds *= 1.5
        convert(fp8, out, device="cpu", workers=1 + stops % 3)
        assert contents(out) == contents(from_fp8)
    assert len(parts) > 2  # some stopped early, some late


def test_killed_again_and_again(fp8, from_fp8, tmp_path, forks, undisturbed_seconds):
    out = tmp_path / "out"
    seconds, before = undisturbed_seconds / 3, 0
    for _ in range(40):
        process = forks.Process(target=run_quietly, args=(fp8, out, 1))
        process.start()
        process.join(timeout=seconds)
        process.kill()
        process.join()
        found = finished_part(out, from_fp8) if out.exists() else {}
        assert len(found) >= before  # what is finished stays
        before = len(found)
        if process.exitcode == 0:
            break
        seconds *= 1.1
    assert process.exitcode == 0 and contents(out) == contents(from_fp8)


class Faults:
    """Makes the system call number `at`, among those that change the disk, fail; counts them all."""

    CALLS = ("pwrite", "fsync", "replace", "mkdir", "open")

    def __init__(self, patch: pytest.MonkeyPatch, at: int = -1, error: BaseException | None = None) -> None:
        self.count, self.at, self.error = 0, at, error
        for name in self.CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call):
        def counted(*args, **kwargs):
            self.count += 1
            if self.count - 1 == self.at:
                raise self.error
            return call(*args, **kwargs)

        return counted


@pytest.fixture(scope="module")
def num_calls(fp8, tmp_path_factory) -> int:
    out = tmp_path_factory.mktemp("counted") / "out"
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch)
        convert(fp8, out, device="cpu", workers=1)
    assert faults.count > 200
    return faults.count


@pytest.mark.parametrize("stop", range(NUM_STOPS))
def test_a_disk_that_fills_up(fp8, from_fp8, tmp_path, num_calls, stop):
    """At the first change, at the last ones, and at random ones between: a write, a sync or a rename fails."""
    at = {0: 0, 1: num_calls - 1, 2: num_calls - 2}.get(stop, random.Random(stop).randrange(num_calls))
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(CapacityError, match="No space left on device; make room and give the same command again"):
            convert(fp8, out, device="cpu", workers=1)
    if out.exists():
        finished_part(out, from_fp8)
        assert not [file for file in out.rglob("*.safetensors.partial")]  # its space is given back
    convert(fp8, out, device="cpu", workers=2)
    assert contents(out) == contents(from_fp8)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(fp8, from_fp8, tmp_path, num_calls, workers):
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, num_calls // 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            convert(fp8, out, device="cpu", workers=workers)
    assert not list(out.rglob("*.safetensors.partial"))
    assert finished_part(out, from_fp8)  # half of the work is not lost
    convert(fp8, out, device="cpu")
    assert contents(out) == contents(from_fp8)


def test_another_error_of_the_disk_is_not_hidden(fp8, tmp_path, num_calls):
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, num_calls // 2, OSError(errno.EIO, "Input/output error"))
        with pytest.raises(OSError, match="Input/output error"):
            convert(fp8, tmp_path / "out", device="cpu", workers=1)


@pytest.fixture
def stopped(fp8, tmp_path, num_calls) -> Path:
    """A conversion of `fp8` by mse that a full disk stopped half way."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CapacityError):
        Faults(patch, num_calls // 2, OSError(errno.ENOSPC, "full"))
        convert(fp8, tmp_path / "out", device="cpu", workers=1)
    return tmp_path / "out"


def test_finished_shards_are_not_written_again(fp8, stopped, capsys):
    before = {file: file.stat().st_mtime_ns for file in stopped.glob("*.safetensors")}
    convert(fp8, stopped, device="cpu")
    assert before and all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert f"{len(before)} of 5 shards were finished by an earlier call" in capsys.readouterr().err


def test_a_finished_output_is_left_as_it_is(fp8, from_fp8, tmp_path):
    out = copy(from_fp8, tmp_path / "out")
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    report = convert(fp8, out, device="cpu")
    assert report == json.loads((out / "quantize_report.json").read_text())
    assert before == {file: file.stat().st_mtime_ns for file in out.iterdir()}


def test_a_finished_output_that_lost_a_file_is_refused(fp8, from_fp8, tmp_path):
    out = copy(from_fp8, tmp_path / "out")
    (out / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json went missing or changed size; remove the folder"):
        convert(fp8, out, device="cpu")


@pytest.mark.parametrize("state", ["stopped", "from_fp8"])
def test_another_method_is_refused(fp8, request, state):
    out = request.getfixturevalue(state)
    before = contents(out)
    with pytest.raises(ConfigError, match="was begun with method 'mse', this call has 'rtn': give --method mse, or an"):
        convert(fp8, out, method="rtn", device="cpu")
    assert contents(out) == before


@pytest.mark.parametrize("state", ["stopped", "from_fp8"])
def test_another_source_is_refused(make_checkpoint, request, state):
    """Same names, shapes and sizes, and the same config.json: a fine-tuned model."""
    out, other = request.getfixturevalue(state), make_checkpoint("fp8", seed=1)
    with pytest.raises(
        ConfigError, match="was begun with source .*: name the checkpoint it was begun from, or another"
    ):
        convert(other, out, device="cpu")


def test_another_version_is_refused(fp8, stopped, monkeypatch):
    monkeypatch.setattr("sglang_glm52.quantize.convert.__version__", "99.0")
    with pytest.raises(ConfigError, match="was begun with package .*, this call has '99.0': install sglang-glm52"):
        convert(fp8, stopped, device="cpu")


def test_a_source_that_has_moved_is_the_same(fp8, from_fp8, stopped, tmp_path):
    convert(copy(fp8, tmp_path / "elsewhere" / fp8.name), stopped, device="cpu")
    assert contents(stopped) == contents(from_fp8)


def test_a_foreign_file_in_a_stopped_output_is_refused(fp8, stopped):
    (stopped / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds other files \(notes\.txt\)"):
        convert(fp8, stopped, device="cpu")


def test_two_at_once_are_refused(fp8, stopped):
    holder = os.open(stopped / WORK_FOLDER, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="another glm52 quantize is writing"):
        convert(fp8, stopped, device="cpu")
    os.close(holder)
    convert(fp8, stopped, device="cpu")


def test_a_file_system_without_locks_is_fine(fp8, from_fp8, tmp_path, monkeypatch):
    def no_locks(fd, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(resume.fcntl, "flock", no_locks)
    convert(fp8, tmp_path / "out", device="cpu")
    assert contents(tmp_path / "out") == contents(from_fp8)

"""A device's memory in use, sampled while something runs, as rows of a CSV file."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sglang_glm52.bench.window_spec import Device

HEADER = ("which", "phase", "seconds", "used_bytes")
START = "start"


@dataclass(frozen=True, slots=True)
class Sample:
    """`used_bytes` of the device's memory, `seconds` after the process began to sample."""

    which: str
    phase: str
    seconds: float
    used_bytes: int


class MemorySampler:
    """A thread that appends a row every `every_seconds` of a phase and remembers the most that each phase used."""

    def __init__(self, path: Path, which: str, read_used: Callable[[], int], every_seconds: float) -> None:
        self.path, self.which, self.read_used, self.every_seconds = path, which, read_used, every_seconds
        self.phase: str | None = START  # None between two phases, when nothing is sampled: a peak has been read by then
        self.peaks: dict[str, int] = {}
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()  # two threads sample
        self._thread = threading.Thread(target=self._run, name="memory-sampler", daemon=True)

    def __enter__(self) -> MemorySampler:
        if not self.path.exists():
            self._append(HEADER)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Name what runs inside; one sample at least is taken at each end of it."""
        with self._lock:
            self.phase = phase
        self._sample()
        try:
            yield
        finally:
            self._sample()
            with self._lock:
                self.phase = None

    def _run(self) -> None:
        while not self._stop.wait(self.every_seconds):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            phase = self.phase
            if phase is None:
                return
            used = self.read_used()
            self.peaks[phase] = max(used, self.peaks.get(phase, 0))
            self._append((self.which, phase, f"{time.monotonic() - self._began:.2f}", used))

    def _append(self, row: tuple) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)


def read_samples(path: Path) -> list[Sample]:
    """Rows of a sampler's file, in its order."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        return [Sample(row["which"], row["phase"], float(row["seconds"]), int(row["used_bytes"])) for row in rows]


@contextmanager
def device_memory(device: Device) -> Iterator[Callable[[], int]]:
    """A function that reads how many bytes of the first GPU, or of this machine, are in use by anybody."""
    if device == "cpu":
        import psutil

        yield lambda: psutil.virtual_memory().used
        return
    from sglang_glm52.bench.gpu_memory import used_bytes, visible_gpus

    with visible_gpus() as gpus:
        yield lambda: used_bytes(gpus[0])

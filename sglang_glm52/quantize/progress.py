"""How far a long job is: one line that is overwritten on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from threading import Lock
from types import TracebackType
from typing import TextIO

GB = 1e9
_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 10.0


class Progress:
    """Counts bytes from any thread and prints the rate and the time left, to stderr by default."""

    def __init__(self, total_bytes: int, stream: TextIO | None = None) -> None:
        self._total, self._done = total_bytes, 0
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._interval = _TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS
        self._start = self._printed = time.monotonic()
        self._lock = Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_terminal and self._done:
            self._print(self._line(time.monotonic()) + "\n")

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            now = time.monotonic()
            if now - self._printed >= self._interval:
                self._printed = now
                self._print(self._line(now) + ("" if self._is_terminal else "\n"))

    def _line(self, now: float) -> str:
        rate = self._done / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        return f"{self._done / GB:.2f} of {self._total / GB:.2f} GB, {rate / GB:.3f} GB/s, {_duration(left)} left"

    def _print(self, text: str) -> None:
        # Carriage return and "erase to the end of the line": the last line may have been longer.
        self._stream.write(f"\r\x1b[K{text}" if self._is_terminal else text)
        self._stream.flush()


def say(text: str) -> None:
    """A line on stderr, where progress goes too: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"

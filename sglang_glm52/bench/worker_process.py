"""Runs a measuring process and looks at what it has so far."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

STDERR = 2
TICK_S = 2.0


def run_worker(command: Sequence[str], environ: Mapping[str, str], tick: Callable[[], None]) -> int:
    """Wait for `command`, calling `tick` every few seconds and at its end; its exit status.

    Its stdout goes to stderr: stdout is for the record alone. SIGTERM, `timeout`'s for one, ends the command and not
    this process, so that what was measured is still reported.
    """
    process = subprocess.Popen(command, stdout=STDERR, env=environ)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while process.poll() is None:
            try:
                process.wait(timeout=TICK_S)
            except subprocess.TimeoutExpired:
                tick()
        tick()
        return process.returncode
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            process.kill()
            process.wait()

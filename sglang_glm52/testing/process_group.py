"""A child process and everything it starts, ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL_SECONDS = 0.1
_KILL_SECONDS = 5.0  # SIGKILL takes effect a moment later; a zombie that nobody reaps must not hold us longer


@contextmanager
def process_group(
    command: Sequence[str], *, environ: Mapping[str, str], log: Path, grace_seconds: float
) -> Iterator[subprocess.Popen]:
    """Run `command` in a process group of its own, its output in `log`; leave no process of the group behind.

    A terminal's Ctrl-C reaches this process alone, which then ends the group: SIGTERM for the first process, SIGKILL
    for what is left when that has ended or `grace_seconds` have passed.
    """
    with log.open("wb") as output:
        leader = subprocess.Popen(
            list(command),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield leader
    finally:
        _end_group(leader, grace_seconds)


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Let `signals` (such as SIGTERM, SIGHUP) raise KeyboardInterrupt as Ctrl-C does, so that clean-up runs."""
    previous = {number: signal.signal(number, _raise_interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise_interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _end_group(leader: subprocess.Popen, grace_seconds: float) -> None:
    try:
        leader.terminate()  # it ends its own children; a server takes their death by another hand for a crash
        with suppress(subprocess.TimeoutExpired):
            leader.wait(grace_seconds)
    finally:  # a second Ctrl-C ends the wait, not the clean-up
        deadline = time.monotonic() + _KILL_SECONDS
        while _kill_group(leader) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _kill_group(leader: subprocess.Popen) -> bool:
    """Send SIGKILL to whatever is left of the group; False if nothing is."""
    leader.poll()  # reap it, or it would count as left
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True

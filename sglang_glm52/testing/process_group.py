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

    A terminal's Ctrl-C reaches this process alone, which then ends the group: SIGTERM, `grace_seconds` later SIGKILL.
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
        _signal_group(leader.pid, signal.SIGTERM)
        _wait_for_end(leader, grace_seconds)
    finally:  # a second Ctrl-C ends the wait, not the clean-up
        _signal_group(leader.pid, signal.SIGKILL)
        _wait_for_end(leader, _KILL_SECONDS)


def _wait_for_end(leader: subprocess.Popen, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while _is_alive(leader) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _is_alive(leader: subprocess.Popen) -> bool:
    leader.poll()  # reap it, or it would count as alive
    try:
        os.killpg(leader.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)

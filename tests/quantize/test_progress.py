from __future__ import annotations

import io

import pytest

from sglang_glm52.quantize import progress
from sglang_glm52.quantize.progress import Progress, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds(clock):
    out = io.StringIO()
    with Progress(8_000_000_000, out) as shown:
        for _ in range(4):
            clock[0] += 6
            shown.add(1_000_000_000)
    assert out.getvalue().splitlines() == [
        "2.00 of 8.00 GB, 0.167 GB/s, 0 min 36 s left",
        "4.00 of 8.00 GB, 0.167 GB/s, 0 min 24 s left",
    ]


def test_a_terminal_has_one_line_that_is_overwritten(clock):
    out = Terminal()
    with Progress(8_000_000_000, out) as shown:
        for _ in range(4):
            clock[0] += 0.15
            shown.add(2_000_000_000)
    text = out.getvalue()
    assert text.count("\n") == 1 and text.endswith("8.00 of 8.00 GB, 13.333 GB/s, 0 min 00 s left\n")
    assert text.count("\r\x1b[K") == 3


def test_hours_are_hours(clock):
    out = io.StringIO()
    with Progress(755_000_000_000, out) as shown:
        clock[0] += 10
        shown.add(500_000_000)
    assert out.getvalue() == "0.50 of 755.00 GB, 0.050 GB/s, 4 h 11 min left\n"


def test_what_is_said_goes_to_stderr(capsys):
    say("something")
    assert capsys.readouterr() == ("", "something\n")

"""Which of the host's engines this process runs, and which additions that engine needs."""

from __future__ import annotations

from typing import Literal

Engine = Literal["cpu", "cuda"]
When = Literal["always", "cpu", "cuda"]


def host_engine() -> Engine:
    """ "cpu" where the host runs its CPU engine (SGLANG_USE_CPU_ENGINE=1), else "cuda"."""
    from sglang.srt.utils import is_cpu

    return "cpu" if is_cpu() else "cuda"


def is_wanted(when: When, engine: Engine) -> bool:
    """Whether an addition marked `when` belongs on `engine`."""
    return when in ("always", engine)

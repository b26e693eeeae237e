"""Fixtures for the whole suite."""

from __future__ import annotations

import importlib
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# Files of minutes, first: a file runs in one process, and a long one at the end leaves the other process idle.
LONGEST = ("speculative/test_greedy_equality.py", "models/test_tensor_parallel.py", "models/test_parity.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))  # stable: all else stays in order


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_works() -> None:
    """A shell makes what it starts in the background ignore Ctrl-C, and every process of a test would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """write_module(name, source) makes `name` importable for the length of one test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()

    yield write
    for path in tmp_path.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


@pytest.fixture
def make_module(write_module: Callable[[str, str], None]) -> Callable[[str, str], ModuleType]:
    """make_module(name, source) writes a module and imports it."""

    def make(name: str, source: str) -> ModuleType:
        write_module(name, source)
        return importlib.import_module(name)

    return make

"""Actions that wait for an import."""

from __future__ import annotations

import importlib
import sys

import pytest

from sglang_glm52.host.on_import import when_imported


def test_the_action_waits_for_the_import_and_sees_the_whole_module(write_module):
    write_module("late_module", "first = 1\nlast = 2")
    seen = []
    when_imported("late_module", lambda: seen.append(sys.modules["late_module"].last))
    when_imported("late_module", lambda: seen.append("second"))
    assert seen == [] and "late_module" not in sys.modules
    module = importlib.import_module("late_module")
    assert seen == [2, "second"]
    importlib.reload(module)
    assert seen == [2, "second"]


def test_an_imported_module_is_acted_on_at_once(make_module):
    make_module("early_module", "value = 1")
    seen = []
    when_imported("early_module", lambda: seen.append(1))
    assert seen == [1]


def test_a_failing_import_fails_as_it_would_without_us(write_module):
    write_module("failing_module", "raise RuntimeError('host is broken')")
    seen = []
    when_imported("failing_module", lambda: seen.append(1))
    with pytest.raises(RuntimeError, match="host is broken"):
        importlib.import_module("failing_module")
    assert seen == []


def test_a_module_that_does_not_exist_is_still_not_found():
    when_imported("module_that_is_not", lambda: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("module_that_is_not")

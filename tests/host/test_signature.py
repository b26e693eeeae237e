"""Which implementations fit which targets."""

from __future__ import annotations

import pytest

from sglang_glm52.host.signature import explain_mismatch


def target(self, hidden, mask=None, *, scale): ...


class Base:
    def __init__(self, size): ...


class Derived(Base): ...


class Other: ...


def around_all(original, *args, **kwargs): ...
def around_named(original, self, hidden, mask=None, *, scale): ...
def around_swapped(original, self, mask, hidden, *, scale): ...
def around_short(original, self, hidden): ...
def around_part(original, self, *args, **kwargs): ...
def after_named(result, self, hidden, mask=None, *, scale): ...
def before_no_scale(self, hidden, mask=None): ...
def replace_rest_by_keyword(self, hidden, **rest): ...


@pytest.mark.parametrize(
    ("impl", "kind", "expected"),
    [
        (around_all, "around", ""),
        (around_named, "around", ""),
        (around_part, "around", ""),
        (after_named, "after", ""),
        (target, "replace", ""),
        (target, "before", ""),
        (around_swapped, "around", "hook expects (self, mask, hidden)"),
        (around_short, "around", "takes mask, scale, which its hook does not"),
        (before_no_scale, "before", "takes scale, which its hook does not"),
        (replace_rest_by_keyword, "replace", "takes mask, which its hook does not"),
        (around_named, "replace", "hook expects (original, self"),
    ],
)
def test_function_hooks(impl, kind, expected):
    explanation = explain_mismatch(target, impl, kind, needs=())
    assert expected in explanation and bool(expected) == bool(explanation)


def test_a_missing_parameter_is_named():
    assert explain_mismatch(target, around_all, "around", needs=("hidden", "topk")).startswith("has no parameter topk;")


def test_a_class_is_replaced_by_a_subclass_only():
    assert explain_mismatch(Base, Derived, "replace", needs=("size",)) == ""
    assert "has no parameter dtype" in explain_mismatch(Base, Derived, "replace", needs=("dtype",))
    assert "does not derive from it" in explain_mismatch(Base, Other, "replace", needs=())
    assert "'around'" in explain_mismatch(Base, around_all, "around", needs=())
    assert "both be classes or both be functions" in explain_mismatch(Base, around_all, "replace", needs=())


def test_a_value_is_no_target():
    assert "is a int, not a function" in explain_mismatch(3, around_all, "around", needs=())

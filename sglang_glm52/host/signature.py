"""Whether a hook's implementation can stand in for, or around, a function of the host."""

from __future__ import annotations

import inspect
from collections.abc import Callable

# What the host passes ahead of the target's own arguments.
_LEADING = {"before": 0, "after": 1, "around": 1, "replace": 0}


def explain_mismatch(target: object, impl: Callable, kind: str, needs: tuple[str, ...]) -> str:
    """Say why `impl` cannot be a `kind` hook on `target`; "" if it can.

    A hook receives the target's arguments as each caller spelled them, so an implementation that names parameters must
    name the target's, at the same positions.
    """
    if not callable(target):
        return f"is a {type(target).__name__}, not a function, method or class"
    parameters = list(inspect.signature(target).parameters)
    missing = [name for name in needs if name not in parameters]
    if missing:
        return f"has no parameter {', '.join(missing)}; it has ({', '.join(parameters)})"
    if isinstance(target, type) or isinstance(impl, type):
        return _explain_class_mismatch(target, impl, kind)
    return _explain_order(target, impl, _LEADING[kind])


def _explain_class_mismatch(target: object, impl: Callable, kind: str) -> str:
    if kind != "replace":
        return f"or its hook is a class, which can only be replaced, not hooked with {kind!r}"
    if not (isinstance(target, type) and isinstance(impl, type)):
        return "and its replacement must both be classes or both be functions"
    if not issubclass(impl, target):
        return f"is replaced by {impl.__qualname__}, which does not derive from it"
    return ""


def _explain_order(target: Callable, impl: Callable, leading: int) -> str:
    theirs = list(inspect.signature(target).parameters.values())
    ours = list(inspect.signature(impl).parameters.values())[leading:]
    their_names, our_names = _positional(theirs), _positional(ours)
    if our_names != their_names[: len(our_names)]:
        return f"takes ({', '.join(their_names)}); its hook expects ({', '.join(our_names)})"
    kinds = {parameter.kind for parameter in ours}
    if {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds:
        return ""
    our_all = {parameter.name for parameter in ours}
    rest = [p.name for p in theirs if p.name not in our_all and p.kind not in _optional_kinds(kinds)]
    return f"takes {', '.join(rest)}, which its hook does not" if rest else ""


def _positional(parameters: list[inspect.Parameter]) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


def _optional_kinds(kinds: set) -> set:
    """Kinds of the target's parameters that the hook's own *args or **kwargs, if any, takes in."""
    taken = set()
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        taken |= {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        taken |= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    return taken

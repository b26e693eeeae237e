"""A hook on the host as a record; all are checked before one is installed, and proved afterwards."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from packaging.specifiers import SpecifierSet

from sglang_glm52.errors import HostMismatchError
from sglang_glm52.host.engine import Engine, When, is_wanted
from sglang_glm52.host.signature import explain_mismatch

Kind = Literal["before", "after", "around", "replace"]  # values of the host's HookType


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSpec:
    """One change of the host's behaviour. No field has a default, so that no record can leave one out."""

    name: str  # file stem under host/hooks/, and the heading in docs/hooks.md
    target: str  # dotted path of a function, method or class inside SGLang
    kind: Kind
    impl: str  # "module:function"; imported only by processes that install the hook
    needs: tuple[str, ...]  # parameters of the target that the implementation reads
    when: When  # the engine that needs it
    reason: str  # what goes wrong without the hook, in one sentence
    upstream: str  # issue or pull request address, or "none: <why it cannot go upstream>"
    hosts: str  # SGLang versions that need it, as a specifier: ">=0.5.13,<0.5.24"
    drop_when: str  # the fact that makes it dead: a merged pull request, a release, our minimum


def wanted_hooks(specs: Iterable[HookSpec], installed: str, engine: Engine) -> list[HookSpec]:
    """Those of `specs` that SGLang `installed` needs on `engine`."""
    return [
        spec
        for spec in specs
        if is_wanted(spec.when, engine) and SpecifierSet(spec.hosts).contains(installed, prereleases=True)
    ]


def install_hooks(specs: Iterable[HookSpec]) -> dict[str, object]:
    """Check every hook, then register them all with the host, which applies them after the last plugin.

    Returns {hook name: the target as it was}, which `require_hooks` compares against.
    Raises HostMismatchError, with nothing changed, if any target is missing or has other parameters.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    checked = [(spec, *_checked(spec)) for spec in specs]  # all checks before the first change
    for spec, impl, _ in checked:
        HookRegistry.register(spec.target, impl, HookType(spec.kind))
    return {spec.name: original for spec, _, original in checked}


def require_hooks(specs: Iterable[HookSpec], originals: Mapping[str, object]) -> None:
    """Raise HostMismatchError unless each hook in `originals` now sits on its target: the host only logs a failure."""
    dead = [f"{s.name} on {s.target}" for s in specs if s.name in originals and not is_applied(s, originals[s.name])]
    if dead:
        raise HostMismatchError(
            f"hooks not applied in this process: {', '.join(dead)}; GLM-5.2 would run without them. "
            "SGLang's log above says why ('Failed to apply hooks')"
        )


def is_applied(spec: HookSpec, original: object) -> bool:
    """Whether the target is no longer what it was before the hook was installed."""
    return _resolve(spec.target) is not original


def _checked(spec: HookSpec) -> tuple[Callable, object]:
    """The implementation and the present target of a hook that fits this host; else HostMismatchError."""
    where = f"hook {spec.name} does not fit this SGLang"
    try:
        original = _resolve(spec.target)
        impl = pkgutil.resolve_name(spec.impl)
        mismatch = explain_mismatch(original, impl, spec.kind, spec.needs)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: a target without a signature
        raise HostMismatchError(f"{where}: {spec.target}: {error}. {_REMEDY}") from error
    if mismatch:
        raise HostMismatchError(f"{where}: {spec.target} {mismatch}. {_REMEDY}")
    return impl, original


def _resolve(target: str) -> object:
    found = pkgutil.resolve_name(target)
    return getattr(found, "__func__", found)  # a classmethod is a new bound object at each look


_REMEDY = "Reinstall the SGLang this plugin was tested on; if it is unmodified, this is a defect of the plugin"

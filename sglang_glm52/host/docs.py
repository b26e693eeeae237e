"""docs/hooks.md from the ledger: `python -m sglang_glm52.host.docs > docs/hooks.md`."""

from __future__ import annotations

from collections.abc import Iterator

from sglang_glm52.host.ledger import HOOKS, REGISTRATIONS
from sglang_glm52.host.registries import Registration
from sglang_glm52.host.spec import HookSpec
from sglang_glm52.host.version import TESTED

_INTRODUCTION = f"""# What this plugin changes in SGLang
Generated from `sglang_glm52/host/ledger.py` by `python -m sglang_glm52.host.docs > docs/hooks.md`.
`glm52 doctor` shows which of these are in effect. The host is SGLang.

Tested on SGLang {TESTED}. All hooks are checked before one is installed, and proved in each process that builds a
GLM-5.2 model or answers requests for one. A server of GLM-5.2 starts with all of them or refuses to. A server of
another model is not affected, unless it is started with `--tool-call-parser glm47` or `--reasoning-parser glm45`: those
two names stand for this package's parsers.
"""


def hooks_markdown() -> str:
    """The whole text of docs/hooks.md."""
    lines = [_INTRODUCTION, "## Registrations", *(_registration(r) for r in REGISTRATIONS), "", "## Hooks"]
    return "\n".join([*lines, *(line for spec in HOOKS for line in _hook(spec))]).rstrip() + "\n"


def _registration(registration: Registration) -> str:
    entry = f"`{registration.registry}[{registration.key!r}]` becomes `{registration.provider}`"
    return f"- **{registration.name}** (engine: {registration.when}): {entry}. {registration.reason}"


def _hook(spec: HookSpec) -> Iterator[str]:
    yield f"### {spec.name}"
    yield spec.reason
    yield ""
    yield f"- target: `{spec.target}`, {spec.kind}, reads {', '.join(f'`{name}`' for name in spec.needs) or 'nothing'}"
    yield f"- engine: {spec.when}"
    yield f"- hosts: `{spec.hosts}`"
    yield f"- upstream: {spec.upstream}"
    yield f"- dropped when: {spec.drop_when}"
    yield ""


if __name__ == "__main__":
    print(hooks_markdown(), end="")

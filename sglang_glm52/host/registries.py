"""Additions to the host's own registries: dictionaries it looks names up in."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass

from sglang_glm52.errors import HostMismatchError
from sglang_glm52.host.engine import Engine, When, is_wanted
from sglang_glm52.host.on_import import when_imported

MODEL_REGISTRY = "sglang.srt.models.registry:ModelRegistry.models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One entry in one registry. No field has a default, so that no record can leave one out."""

    name: str  # heading in docs/hooks.md
    registry: str  # "module:dotted.name" of a dictionary inside SGLang
    key: str
    provider: str  # "module:name" of what the entry becomes; imported after the registry's module
    when: When  # the engine that needs it
    reason: str  # why the host's own entry, or none, will not do

    @property
    def module(self) -> str:
        return self.registry.partition(":")[0]


def wanted_registrations(registrations: Iterable[Registration], engine: Engine) -> list[Registration]:
    return [registration for registration in registrations if is_wanted(registration.when, engine)]


def add_registrations(
    registrations: Iterable[Registration],
    providers: MutableMapping[str, object],
    on_failure: Callable[[HostMismatchError], None],
) -> None:
    """Write each entry as soon as its registry's module is imported, which may be now.

    `providers` receives {name: what was written}. A failure must not reach the import it happens in, which other models
    need as well: `on_failure` receives it.
    """
    for registration in registrations:

        def write(registration: Registration = registration) -> None:
            try:
                providers[registration.name] = _write(registration)
            except HostMismatchError as error:
                on_failure(error)

        when_imported(registration.module, write)


def require_registrations(registrations: Iterable[Registration], providers: Mapping[str, object]) -> None:
    """Raise HostMismatchError if an entry that was written is no longer there."""
    for registration in registrations:
        if registration.name in providers and not is_written(registration, providers[registration.name]):
            raise HostMismatchError(
                f"{registration.registry}[{registration.key!r}] is no longer {registration.provider}: something else "
                "wrote it after this plugin. Leave the other plugin out: set SGLANG_PLUGINS=glm52"
            )


def is_written(registration: Registration, provider: object) -> bool:
    """Whether the registry still holds what this plugin wrote."""
    return pkgutil.resolve_name(registration.registry).get(registration.key) is provider


def _write(registration: Registration) -> object:
    where = f"registration {registration.name}"
    try:
        table = pkgutil.resolve_name(registration.registry)
        provider = pkgutil.resolve_name(registration.provider)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # what importing against another host raises
        raise HostMismatchError(f"{where} does not fit this SGLang: {type(error).__name__}: {error}") from error
    if not isinstance(table, dict):
        raise HostMismatchError(f"{where}: {registration.registry} is a {type(table).__name__}, not a dict")
    table[registration.key] = provider
    return provider

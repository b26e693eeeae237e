"""Examine this machine and this process: could a GLM-5.2 server start, and if not, why."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from sglang_glm52.errors import ConfigError, HostMismatchError
from sglang_glm52.host.engine import Engine, host_engine
from sglang_glm52.host.guard import require_host
from sglang_glm52.host.ledger import HOOKS, REGISTRATIONS
from sglang_glm52.host.registries import is_written, wanted_registrations
from sglang_glm52.host.spec import is_applied, wanted_hooks
from sglang_glm52.host.state import STATE
from sglang_glm52.host.version import host_version, is_tested

PACKAGES = ("sglang-glm52", "sglang", "torch", "transformers", "triton", "sglang-kernel", "flashinfer-python")


@dataclass(frozen=True, slots=True)
class Addition:
    """A hook or registration and its state in this process."""

    name: str
    where: str
    state: Literal["on", "not needed", "broken"]
    why: str  # "" when on


@dataclass(frozen=True, slots=True)
class Report:
    host: str
    is_host_tested: bool
    python: str
    engine: Engine
    gpus: tuple[str, ...]
    driver: str  # "" without a GPU
    packages: dict[str, str]
    registrations: tuple[Addition, ...]
    hooks: tuple[Addition, ...]
    problems: tuple[str, ...]

    @property
    def can_serve(self) -> bool:
        return not self.problems


def examine() -> Report:
    """Load the plugin the way a server process does and report what came of it."""
    from sglang.srt.plugins import load_plugins

    load_plugins()
    for registration in REGISTRATIONS:
        importlib.import_module(registration.module)  # a server's processes import these by themselves
    engine = host_engine()
    gpus, driver = _gpus()
    return Report(
        host=host_version(),
        is_host_tested=is_tested(host_version()),
        python=platform.python_version(),
        engine=engine,
        gpus=gpus,
        driver=driver,
        packages={name: _version(name) for name in PACKAGES},
        registrations=tuple(_registrations(engine)),
        hooks=tuple(_hooks(engine)),
        problems=tuple(_problems(engine, gpus)),
    )


def _problems(engine: Engine, gpus: tuple[str, ...]) -> Iterator[str]:
    try:
        require_host()
    except (ConfigError, HostMismatchError) as error:
        yield str(error)
    if engine != "cuda":
        return
    if not gpus:
        yield "no GPU: set SGLANG_USE_CPU_ENGINE=1 and start the server with --device cpu"
    from sglang_glm52.models.support import check_gpu

    for device in range(len(gpus)):
        try:
            check_gpu(device)
        except ConfigError as error:
            yield str(error)


def _hooks(engine: Engine) -> Iterator[Addition]:
    wanted = wanted_hooks(HOOKS, host_version(), engine)
    for spec in HOOKS:
        if spec not in wanted:
            why = f"for the {spec.when} engine only" if spec.when not in ("always", engine) else f"hosts {spec.hosts}"
            yield Addition(spec.name, spec.target, "not needed", why)
        elif spec.name not in STATE.originals:
            yield Addition(spec.name, spec.target, "broken", "not installed, see problems")
        elif not is_applied(spec, STATE.originals[spec.name]):
            yield Addition(spec.name, spec.target, "broken", "installed, but the host did not apply it")
        else:
            yield Addition(spec.name, spec.target, "on", "")


def _registrations(engine: Engine) -> Iterator[Addition]:
    from sglang_glm52.host.refusal import RefusedModel

    wanted = wanted_registrations(REGISTRATIONS, engine)
    for registration in REGISTRATIONS:
        where = f"{registration.registry}[{registration.key!r}]"
        provider = STATE.providers.get(registration.name)
        if registration not in wanted:
            yield Addition(registration.name, where, "not needed", f"for the {registration.when} engine only")
        elif provider is None:
            yield Addition(registration.name, where, "broken", "not written, see problems")
        elif not is_written(registration, provider):
            yield Addition(registration.name, where, "broken", "overwritten by something else")
        elif provider is RefusedModel:
            yield Addition(registration.name, where, "broken", "holds a class that refuses, see problems")
        else:
            yield Addition(registration.name, where, "on", "")


def _gpus() -> tuple[tuple[str, ...], str]:
    import torch

    names = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    if not names:
        return (), ""
    import pynvml

    pynvml.nvmlInit()
    return names, pynvml.nvmlSystemGetDriverVersion()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

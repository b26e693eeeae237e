"""The entry point SGLang calls in each of its processes before it reads its arguments.

This module and what it imports at the top import neither torch nor sglang: whatever is wrong with either must be found
inside register(), where it can be kept.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sglang_glm52.env import settings
from sglang_glm52.errors import ConfigError, HostMismatchError
from sglang_glm52.host.engine import host_engine
from sglang_glm52.host.ledger import HOOKS, REGISTRATIONS
from sglang_glm52.host.registries import MODEL_REGISTRY, add_registrations, wanted_registrations
from sglang_glm52.host.spec import install_hooks, wanted_hooks
from sglang_glm52.host.state import STATE
from sglang_glm52.host.version import check_host_version, host_version

logger = logging.getLogger(__name__)


def register() -> None:
    """Add GLM-5.2 to SGLang; on any misfit add nothing but a model class that refuses to serve it.

    Other models are served either way: nothing here raises.
    """
    if STATE.is_registered:
        return
    STATE.is_registered = True
    try:
        settings()
        check_host_version(host_version())
        engine = host_engine()
        STATE.originals = install_hooks(wanted_hooks(HOOKS, host_version(), engine))
        add_registrations(wanted_registrations(REGISTRATIONS, engine), STATE.providers, refuse)
    except (ConfigError, HostMismatchError, ImportError) as error:
        refuse(error)


def refuse(error: Exception) -> None:
    """Let GLM-5.2 be answered by a class that raises `error` when it is built."""
    STATE.fail(error)
    logger.error("GLM-5.2 will not be served, other models are not affected: %s", error)
    models = [registration for registration in REGISTRATIONS if registration.registry == MODEL_REGISTRY]
    refusals = [replace(model, provider="sglang_glm52.host.refusal:RefusedModel") for model in models]
    add_registrations(refusals, STATE.providers, STATE.fail)

"""Fail closed: a GLM-5.2 model is not built in a process where this plugin is not wholly in effect."""

from __future__ import annotations

import logging

from sglang_glm52 import __version__
from sglang_glm52.errors import HostMismatchError
from sglang_glm52.host.ledger import HOOKS, REGISTRATIONS
from sglang_glm52.host.registries import require_registrations
from sglang_glm52.host.spec import require_hooks
from sglang_glm52.host.state import STATE
from sglang_glm52.host.version import host_version

logger = logging.getLogger(__name__)

STATUS_PREFIX = "sglang-glm52 "  # of the line a server logs for each model it builds


def require_host() -> None:
    """Return if every hook and registration is in effect in this process, else raise what stands against it.

    The host catches a plugin's exception and a hook's failure and goes on, so this is where they stop a server.

    Raises:
        HostMismatchError: the host's version is untested, a hook or registration does not fit it or did not take.
        ConfigError: an environment variable of this plugin has a bad value.
    """
    if not STATE.is_registered:
        raise HostMismatchError(
            "the plugin was not loaded in this process; start the server with `python -m sglang.launch_server`, and if "
            "SGLANG_PLUGINS is set, add glm52 to it"
        )
    if STATE.failure is not None:
        raise STATE.failure
    require_hooks(HOOKS, STATE.originals)
    require_registrations(REGISTRATIONS, STATE.providers)
    active = ", ".join([*STATE.providers, *STATE.originals])
    logger.info("%s%s in effect on SGLang %s: %s", STATUS_PREFIX, __version__, host_version(), active)

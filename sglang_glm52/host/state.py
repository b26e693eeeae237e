"""What this plugin has done in this process: written by register(), read by the guard and by `glm52 doctor`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class HostState:
    is_registered: bool = False  # register() has run
    failure: Exception | None = None  # the first thing that went wrong in it, or after it
    originals: dict[str, object] = field(default_factory=dict)  # hook name -> its target before the hook
    providers: dict[str, object] = field(default_factory=dict)  # registration name -> what was written

    def fail(self, error: Exception) -> None:
        """Keep the first failure: later ones follow from it."""
        self.failure = self.failure or error


STATE = HostState()  # per process, as the host's own registries are

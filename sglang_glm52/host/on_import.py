"""Run something right after a module of the host is imported, without importing it now.

SGLang's model registry imports every model file, which takes seconds and which the HTTP process never does. Waiting for
the import keeps those seconds off every server's start.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

Action = Callable[[], None]


def when_imported(module: str, action: Action) -> None:
    """Call `action` once `module` has been imported in this process: now, or when the import comes."""
    if module in sys.modules:
        action()
        return
    _FINDER.waiting.setdefault(module, []).append(action)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


class _AfterImport(MetaPathFinder):
    """Finds nothing itself: takes what the other finders find and adds the waiting actions to its loading."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Action]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        actions = self.waiting.pop(fullname, None)  # popped first: the search below comes back here
        if actions is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_then_act(module: ModuleType) -> None:
            load(module)
            for action in actions:
                action()

        spec.loader.exec_module = load_then_act
        return spec


_FINDER = _AfterImport()

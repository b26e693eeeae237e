"""Collects what is wrong with a checkpoint, so that one error can name it all."""

from __future__ import annotations

from dataclasses import dataclass, field

from sglang_glm52.errors import CheckpointError
from sglang_glm52.models.name_ranges import fold_names

MAX_LISTED = 50  # lines of each kind; a wrong checkpoint may have tens of thousands of tensors


@dataclass(frozen=True, slots=True)
class Problems:
    """Sentences about single tensors or files, by kind ("missing", "wrong", ...)."""

    by_kind: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, what: str) -> None:
        self.by_kind.setdefault(kind, []).append(what)

    def lines(self) -> list[str]:
        """One line a problem, or several that differ in the number of a layer or expert; at most MAX_LISTED a kind."""
        lines = []
        for kind, sentences in self.by_kind.items():
            found = fold_names(sentences)
            lines += [f"{kind}: {what}" for what in found[:MAX_LISTED]]
            if len(found) > MAX_LISTED:
                lines.append(f"{kind}: and {len(found) - MAX_LISTED} more")
        return lines

    def raise_if_any(self, summary: str) -> None:
        """CheckpointError with `summary` as its first line, if anything was added."""
        if self.by_kind:
            raise CheckpointError("\n  ".join([summary, *self.lines()]))

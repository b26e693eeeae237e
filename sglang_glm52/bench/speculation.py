"""Settings of EAGLE speculation, and what a round of them is worth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sglang_glm52.errors import ConfigError

PROBABILITIES = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # columns of the table: that a draft token is accepted


@dataclass(frozen=True, slots=True)
class Speculation:
    """--speculative-num-steps, --speculative-eagle-topk and --speculative-num-draft-tokens of a server."""

    steps: int
    topk: int
    draft_tokens: int

    @classmethod
    def from_text(cls, text: str) -> Speculation:
        """Read "3-1-4".

        Raises:
            ConfigError: not three positive numbers, or a draft that is no chain.
        """
        parts = text.split("-")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            raise ConfigError(f"{text!r}: expected STEPS-TOPK-DRAFT_TOKENS, three positive numbers such as 3-1-4")
        steps, topk, draft_tokens = map(int, parts)
        if topk != 1:
            raise ConfigError(f"{text}: top-k {topk}, but GLM-5.2 is served with chains; use {steps}-1-{steps + 1}")
        if draft_tokens != steps + 1:
            raise ConfigError(
                f"{text}: {steps} steps of a chain and the token before them are {steps + 1} tokens to verify, "
                f"found {draft_tokens}; use {steps}-1-{steps + 1}"
            )
        return cls(steps, topk, draft_tokens)

    def __str__(self) -> str:
        return f"{self.steps}-{self.topk}-{self.draft_tokens}"

    def tokens_per_round(self, probability: float) -> float:
        """Expected new tokens of a round if each draft token is accepted with `probability`, given those before it."""
        return sum(probability**accepted for accepted in range(self.steps + 1))

    def flags(self) -> dict[str, Sequence[str]]:
        """Flags of `python -m sglang.launch_server`; the checkpoint's own MTP layer is the draft model."""
        return {
            "--speculative-algorithm": ["EAGLE"],
            "--speculative-num-steps": [str(self.steps)],
            "--speculative-eagle-topk": [str(self.topk)],
            "--speculative-num-draft-tokens": [str(self.draft_tokens)],
        }


def decode_phase(batch: int) -> str:
    """The phase of plain decode steps."""
    return f"decode batch {batch}"


def round_phase(speculation: Speculation, batch: int) -> str:
    """The phase of draft, verify and draft-extend rounds."""
    return f"EAGLE {speculation} batch {batch}"


def speculation_of(phase: str, *, batch: int) -> Speculation | None:
    """The setting of a phase of rounds at this batch size; None for any other phase."""
    found = re.fullmatch(rf"EAGLE (\S+) batch {batch}", phase)
    return Speculation.from_text(found[1]) if found else None

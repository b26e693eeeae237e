"""The text that a checkpoint with a set MTP acceptance continues greedily, and where its draft is wrong.

The target model answers every token with its `successor`: one cycle runs through the printable bytes, another through
all other tokens but the last of the vocabulary, the decoy, which no text reaches. The MTP layer answers a token with
its successor too, and a misled token with the decoy. A share P of each cycle is not misled, so a walk round the cycle
finds a share P of the draft tokens right, and how many a draft round gets accepted can be counted beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from sglang_glm52.errors import ConfigError
from sglang_glm52.tiny.values import PRINTABLE

CODE_SIZE = 64
MAX_OVERLAP = 18  # of two tokens' codes, of 64: products are even, and a code in 270 has none larger with 320 others
_TRIES, _BATCH = 1 << 20, 1 << 12

Noise = Callable[..., torch.Tensor]  # noise(key, *shape): standard normal float32


@dataclass(frozen=True, slots=True)
class MtpCode:
    """The two cycles, the misled tokens and a sign pattern for each token."""

    successor: tuple[int, ...]  # the decoy's is itself
    misled: frozenset[int]
    signs: torch.Tensor  # [vocab_size, CODE_SIZE] float32, 1 or -1

    @classmethod
    def make(cls, noise: Noise, vocab_size: int, acceptance: float) -> MtpCode:
        """Cycles and signs depend on `noise` alone; with a lower acceptance more tokens are misled.

        Raises:
            ConfigError: acceptance outside [0, 1], or a vocabulary too small for cycles or too large for the codes.
        """
        if not 0.0 <= acceptance <= 1.0:
            raise ConfigError(f"MTP acceptance {acceptance} is not a probability; choose one from 0 to 1")
        if vocab_size < max(PRINTABLE) + 3:
            raise ConfigError(f"vocab_size {vocab_size} does not hold the printable bytes and two tokens more")
        text = list(PRINTABLE)
        others = [token for token in range(vocab_size - 1) if token not in PRINTABLE]
        successor, misled = list(range(vocab_size)), set()
        for key, tokens in (("text", text), ("others", others)):
            cycle = _shuffled(tokens, noise, f"mtp_code.cycle.{key}")
            for token, following in zip(cycle, cycle[1:] + cycle[:1], strict=True):
                successor[token] = following
            num_misled = int((1.0 - acceptance) * len(tokens) + 0.5)
            misled.update(_shuffled(tokens, noise, f"mtp_code.misled.{key}")[:num_misled])
        return cls(tuple(successor), frozenset(misled), _signs(vocab_size, noise))

    @property
    def decoy(self) -> int:
        return len(self.successor) - 1

    @property
    def predecessor(self) -> list[int]:
        return sorted(range(len(self.successor)), key=self.successor.__getitem__)

    @property
    def drafted(self) -> tuple[int, ...]:
        """What the MTP layer answers to each token."""
        return tuple(self.decoy if token in self.misled else then for token, then in enumerate(self.successor))


def accept_lengths(
    successor: Sequence[int], misled: Collection[int], start: int, num_steps: int
) -> Iterator[tuple[int, int]]:
    """Every draft round of a greedy request, without end, as (token it starts from, tokens it commits).

    Args:
        start: the last token committed before the first round.
        num_steps: draft tokens a round. It commits those before the first wrong one, and one of the target's.
    """
    while True:
        first, committed = start, 0
        while True:
            is_wrong = start in misled
            start, committed = successor[start], committed + 1
            if is_wrong or committed > num_steps:
                break
        yield first, committed


def count_rounds(code: MtpCode, first: int, num_tokens: int, num_steps: int) -> int:
    """Draft rounds of a greedy request of `num_tokens`, of which the prefill gave `first`."""
    total, rounds = 1, 0
    for _, committed in accept_lengths(code.successor, code.misled, first, num_steps):
        if total >= num_tokens:
            break
        total, rounds = total + committed, rounds + 1
    return rounds


def expected_accept_length(successor: Sequence[int], misled: Collection[int], start: int, num_steps: int) -> float:
    """Mean tokens a round commits, from 1 to num_steps + 1, over the rounds that an endless request comes to repeat."""
    rounds: dict[int, int] = {}  # in order of their first coming
    for first, committed in accept_lengths(successor, misled, start, num_steps):
        if first in rounds:
            break
        rounds[first] = committed
    repeated = list(rounds.values())[list(rounds).index(first) :]
    return sum(repeated) / len(repeated)


def _shuffled(tokens: list[int], noise: Noise, key: str) -> list[int]:
    return [tokens[index] for index in noise(key, len(tokens)).argsort().tolist()]


def _signs(vocab_size: int, noise: Noise) -> torch.Tensor:
    """Random signs whose product with every earlier token's stays within MAX_OVERLAP."""
    chosen = torch.zeros(0, CODE_SIZE, dtype=torch.float32)  # a loader's default dtype is another
    for batch in range(_TRIES // _BATCH):
        tries = noise(f"mtp_code.signs.{batch}", _BATCH, CODE_SIZE).sign()
        for signs in tries[((tries @ chosen.T).abs() <= MAX_OVERLAP).all(dim=1)]:
            if ((chosen @ signs).abs() <= MAX_OVERLAP).all():
                chosen = torch.cat([chosen, signs.unsqueeze(0)])
            if len(chosen) == vocab_size:
                return chosen
    raise ConfigError(f"a checkpoint with an MTP acceptance cannot have {vocab_size} tokens; leave vocab_size as it is")

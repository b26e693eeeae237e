"""Sizes of the kernel that only its speed depends on, and the shared memory that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

LATENTS, ROPE, GROUPS = 512, 64, 4
TOPK_MULTIPLE = 128  # of slots a token

_KEYS, _COLUMNS, _PARTS, _SLOT_BYTES = 16, 8, 2, 656  # as in shape.cuh
_BARRIER_BYTES = 128  # with what warps tell each other


@dataclass(frozen=True, slots=True)
class Tuning:
    """See the sources in the folder cuda, where these are macros."""

    warps: int  # of a block, 4 or 8
    stages: int  # tiles of keys in shared memory, those on their way among them
    splits: int  # blocks of a cluster, that share a token's slots out
    resident: int  # blocks that a multiprocessor shall hold

    @property
    def tile(self) -> int:
        """Keys that a block works on at once."""
        return _KEYS * self.warps // _PARTS

    @property
    def threads(self) -> int:
        return 32 * self.warps

    def macros(self) -> dict[str, int]:
        return {name.upper(): value for name, value in asdict(self).items()}

    def shared_bytes(self, heads: int, topk: int) -> int:
        """Keys; scores of two tiles and their scales; slots, totals; values of all blocks of the cluster."""
        padded_heads = -(-heads // _COLUMNS) * _COLUMNS
        keys = self.stages * self.tile * _SLOT_BYTES
        scores = 2 * _PARTS * padded_heads * (self.tile + 8) * 4 + 2 * GROUPS * self.tile * 4
        totals = self.warps * padded_heads * 8
        values = 0
        if self.splits > 1:
            own_heads = max(1, heads // self.splits)
            values = heads * LATENTS * 4 + self.splits * own_heads * 16
        return _BARRIER_BYTES + keys + scores + topk // self.splits * 4 + totals + values

    def takes(self, topk: int) -> bool:
        """Whether blocks get whole tiles, and have room to fetch one while they work on another."""
        share = topk // self.splits
        return topk % self.splits == 0 and share % self.tile == 0 and (self.stages > 1 or share == self.tile)


# The fastest of those timed on an H200 with 8 heads, up to so many tokens. Few: many blocks a token, all of its keys on
# their way at once. Many: blocks have a token alone, and enough of them are on a multiprocessor to take turns.
_FEW = (
    (4, Tuning(warps=4, stages=4, splits=16, resident=2)),
    (16, Tuning(warps=4, stages=4, splits=8, resident=2)),
    (32, Tuning(warps=4, stages=3, splits=8, resident=2)),
    (64, Tuning(warps=8, stages=3, splits=2, resident=1)),
    (256, Tuning(warps=4, stages=3, splits=2, resident=2)),
)
_MANY = Tuning(warps=4, stages=2, splits=1, resident=4)
# With 16 heads a block needs more registers, and more memory for the values of a cluster.
_FEW_OF_16_HEADS = tuple((most, replace(tuning, stages=min(tuning.stages, 3))) for most, tuning in _FEW)
_MANY_OF_16_HEADS = Tuning(warps=4, stages=4, splits=1, resident=2)


def choose_tuning(num_tokens: int, heads: int, topk: int) -> Tuning:
    """The one for so many tokens, or the next that can divide so few slots."""
    few, many = (_FEW, _MANY) if heads <= _COLUMNS else (_FEW_OF_16_HEADS, _MANY_OF_16_HEADS)
    fitting = (tuning for most, tuning in few if num_tokens <= most and tuning.takes(topk))
    return next(fitting, many)

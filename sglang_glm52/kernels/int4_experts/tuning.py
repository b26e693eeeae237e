"""Sizes of the decode path's kernels that only their speed depends on, and the shared memory that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from sglang_glm52.formats.int4_group import GROUP

MAX_SLOTS = 2048  # num_tokens * topk: 256 tokens with 8 experts each
_DOWN_SHARED_BYTES = 218 * 1024  # of the 227 KB of a Hopper block; what `down` declares statically comes on top
_FEW_ITEMS = 132  # of two tiles, one a multiprocessor: twice as many of one tile are faster
_ASKED_INNER = 4096  # of all units together: 12.6 MB of GLM-5.2's weights, a quarter of the L2 cache
_FEWEST_DOWN_BLOCKS = 96  # of 132 multiprocessors: with fewer, smaller blocks are faster


@dataclass(frozen=True, slots=True)
class Tuning:
    """See the sources in the folder cuda, where these are macros. Measured on an H200 with GLM-5.2 under TP 8."""

    gate_warps: int = 8
    gate_tiles: int = 2  # an item of `gate_up` is 8 * gate_tiles values of h for up to 8 slots
    gate_stages: int = 2  # pairs of groups of 128 inputs on their way to each warp
    gate_blocks: int = 2  # on one multiprocessor
    gate_registers: int = 120  # of a thread
    gate_asked: int = 16  # units, of whose part of `down` the L2 cache is asked for: those that its warps begin with
    down_warps: int = 16
    down_registers: int = 120  # of a thread: beside a block of `down` one of `round_all_h` fits on a multiprocessor
    down_tiles: int = 3  # 16 rows each: what a block of `down` computes
    down_groups: int = 2  # of 128 inputs, that a warp takes at once

    @property
    def down_rows(self) -> int:
        return 16 * self.down_tiles

    def macros(self, kernel: str) -> dict[str, int]:
        """Those of "gate" or "down"."""
        return {name.upper(): value for name, value in asdict(self).items() if name.startswith(kernel)}

    def most_items(self, inner: int, num_slots: int, num_experts: int) -> int:
        """How many items `gate_up` can have at most: of an expert's slots 8 each, the last fewer, make a unit."""
        return min(num_slots, num_experts + num_slots // 8) * (inner // (8 * self.gate_tiles))

    def gate_up_bytes(self, num_slots: int, num_experts: int) -> int:
        """Dynamic shared memory of `gate_up`: in a stage 16 rows of two groups a tile, and scales; then the routing."""
        stages = self.gate_warps * self.gate_stages * self.gate_tiles * (16 * 2 * 64 + 16 * 2 * 2)
        return stages + _routing_bytes(num_slots, num_experts)

    def down_bytes(self, num_slots: int, num_experts: int) -> int:
        """Dynamic shared memory of `down`: each slot's products and weight, float32; then the routing."""
        return num_slots * (self.down_rows * 4 + 4) + _routing_bytes(num_slots, num_experts)


def choose_tuning(hidden: int, inner: int, num_slots: int) -> Tuning:
    """For weights of these sizes and num_tokens * topk."""
    common = Tuning(
        gate_tiles=1 if num_slots * inner <= _FEW_ITEMS * 16 else 2,
        gate_registers=128 if hidden // GROUP % 2 else 120,  # an odd number of groups needs more than 120
        gate_asked=min(16, _ASKED_INNER // inner),
        down_groups=2 if inner == 256 else 1,  # two at once only where no sums must be kept from step to step
    )
    choices = [replace(common, down_tiles=tiles) for tiles in (3, 2, 1)]
    return next((tuning for tuning in choices if _is_good(tuning, hidden, num_slots)), choices[-1])


def _is_good(tuning: Tuning, hidden: int, num_slots: int) -> bool:
    rows = tuning.down_rows
    has_memory = tuning.down_bytes(num_slots, num_experts=256) <= _DOWN_SHARED_BYTES
    return hidden % rows == 0 and hidden // rows >= _FEWEST_DOWN_BLOCKS and has_memory


def _routing_bytes(num_slots: int, num_experts: int) -> int:
    """An int for each expert; for each slot a unit (6 bytes) and two places."""
    return num_experts * 4 + num_slots * (6 + 2 * 2)

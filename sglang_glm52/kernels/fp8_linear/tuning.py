"""Sizes of the kernel that only its speed depends on, and the shared memory that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from itertools import product

from sglang_glm52.formats.fp8_block import BLOCK
from sglang_glm52.kernels.fp8_linear.kernel import ROWS

COLUMNS = 8  # tokens in one product
_PITCH = 20  # floats of a token's sums of 16 rows, as linear.cu keeps them
_MOST_WARPS, _MOST_UNITS = 16, 6
_SPLITS = (1, 2, 3, 4, 6, 8)  # 8 blocks are the largest cluster that every Hopper takes
_REGISTERS, _SHARED_BYTES, _RESERVED_BYTES, _MOST_THREADS = 65536, 227 * 1024, 1024, 2048  # of a multiprocessor

# The model of `_microseconds`: an H200's memory and L2 cache, then latencies.
_WEIGHT_BYTES_PER_US, _ACTIVATION_BYTES_PER_US = 4.3e6, 5.5e6
_BATCH_US, _CLUSTER_US, _CLUSTER_BLOCK_US, _WAVE_US = 0.4, 0.3, 0.1, 1.0

_TOKENS = (2, 8, 16)  # calls of up to so many share a tuning, and so what is compiled


@dataclass(frozen=True, slots=True)
class Tuning:
    """See linear.cu, where these are macros."""

    row_tiles: int  # of 16 rows, that a block takes
    k_warps: int  # that share out a block's groups of 128 inputs
    units: int  # groups of a warp
    splits: int  # blocks of a cluster, that share out all groups

    @property
    def warps(self) -> int:
        return self.row_tiles * self.k_warps

    @property
    def groups(self) -> int:
        """Of 128 inputs, of a block."""
        return self.k_warps * self.units

    def macros(self) -> dict[str, int]:
        return {name.upper(): value for name, value in asdict(self).items()}

    def blocks(self, outputs: int) -> int:
        return -(-outputs // (ROWS * self.row_tiles)) * self.splits

    def shared_bytes(self, token_tiles: int) -> int:
        """Activations in fp16 and their scales; then the sums of each warp of the cluster, for this block's results."""
        parts = -(-self.row_tiles * token_tiles // self.splits)
        activations = self.groups * token_tiles * COLUMNS * (BLOCK * 2 + 4)
        return activations + self.splits * self.k_warps * parts * COLUMNS * _PITCH * 4


def token_tiles(num_tokens: int) -> int:
    return -(-num_tokens // COLUMNS)


@cache
def choose_tuning(outputs: int, inputs: int, num_tokens: int, num_multiprocessors: int) -> Tuning:
    """The one that should be fastest: all weights on their way at once, over all multiprocessors."""
    most = next(tokens for tokens in _TOKENS if num_tokens <= tokens)
    choices = _choices(outputs // ROWS, inputs // BLOCK, token_tiles(most))
    return min(choices, key=lambda tuning: _cost(tuning, outputs, most, num_multiprocessors))


def _choices(num_row_tiles: int, num_groups: int, tiles: int) -> list[Tuning]:
    """Those that have no more of anything than there is work, and fit on a multiprocessor."""
    found = []
    for row_tiles, k_warps, splits in product(range(1, 9), range(1, _MOST_WARPS + 1), _SPLITS):
        units = -(-num_groups // (k_warps * splits))
        is_idle = row_tiles > num_row_tiles or k_warps * units * (splits - 1) >= num_groups
        if row_tiles * k_warps > _MOST_WARPS or units > _MOST_UNITS or is_idle:
            continue
        tuning = Tuning(row_tiles, k_warps, units, splits)
        if _resident(tuning, tiles):
            found.append(tuning)
    if not found:
        raise ValueError(f"{num_groups * BLOCK} inputs are more than the kernel's clusters take")
    return found


def _registers(tuning: Tuning, tiles: int) -> int:
    """Of a thread, about: what the compiler needs beside the weights of its units."""
    return 56 + 16 * tuning.units + 16 * (tiles - 1)


def _resident(tuning: Tuning, tiles: int) -> int:
    """Blocks that a multiprocessor holds at once."""
    threads = tuning.warps * 32
    return min(
        _REGISTERS // (_registers(tuning, tiles) * threads),
        _SHARED_BYTES // (tuning.shared_bytes(tiles) + _RESERVED_BYTES),
        _MOST_THREADS // threads,
    )


def _cost(tuning: Tuning, outputs: int, num_tokens: int, num_multiprocessors: int) -> tuple[float, int]:
    """The time, to a twentieth of a microsecond, then the registers, which the next kernel has to find free."""
    microseconds = _microseconds(tuning, outputs, num_tokens, num_multiprocessors)
    return round(microseconds * 20), _registers(tuning, token_tiles(num_tokens)) * tuning.warps


def _microseconds(tuning: Tuning, outputs: int, num_tokens: int, num_multiprocessors: int) -> float:
    blocks = tuning.blocks(outputs)
    # A larger cluster does not fit everywhere: multiprocessors come in groups of 16 or 18.
    usable = num_multiprocessors if tuning.splits <= 2 else num_multiprocessors * 19 // 20
    waves = -(-blocks // (usable * _resident(tuning, token_tiles(num_tokens))))
    share = max(waves, blocks / num_multiprocessors) * num_multiprocessors  # blocks, were all as busy as the busiest
    weight_bytes = tuning.row_tiles * ROWS * tuning.groups * BLOCK
    activation_bytes = num_tokens * tuning.groups * BLOCK * 2
    moved = share * (weight_bytes / _WEIGHT_BYTES_PER_US + activation_bytes / _ACTIVATION_BYTES_PER_US)
    batches = -(-num_tokens * tuning.groups // (tuning.warps * 2 * 4))  # 4 groups for each half of a warp
    meeting = _CLUSTER_US + tuning.splits * _CLUSTER_BLOCK_US if tuning.splits > 1 else 0.0
    return moved + batches * _BATCH_US + meeting + (waves - 1) * _WAVE_US

"""Sizes of the kernel that only its speed depends on, and the shared memory that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MAX_CLUSTER = 16  # blocks; more than 8 must be allowed for a kernel
MAX_TOPK = 4096  # positions that a block can collect before it writes them
MAX_SHARED_BYTES = 227 * 1024  # of a block, on sm_90
_LONGEST_SLICE = 4  # times what is in registers; with longer ones, more of a row passes the bound of a sample
_UPPER_INTS, _LOWER_INTS = 4096 + 3 * 64, 1024 + 3 * 32  # bins of a histogram, groups of them, and two kinds of sums


@dataclass(frozen=True, slots=True)
class Tuning:
    """See the sources in the folder cuda, where these are macros. Measured on an H200."""

    cluster: int  # blocks a row, a power of two
    threads: int = 512
    blocks: int = 2  # on one multiprocessor
    loads: int = 16  # of a thread that are on their way at once, and keys that it has in registers

    @property
    def in_registers(self) -> int:
        """Scores of a slice that need no second look at memory."""
        return self.threads * self.loads

    @property
    def fixed_bytes(self) -> int:
        """Dynamic shared memory for histograms and counts, whatever the shape of the scores."""
        ints = _UPPER_INTS + 2 * _LOWER_INTS + 2 * (self.threads // 32 + self.cluster)
        return 4 * _multiple(ints, 4)

    @property
    def list_bytes(self) -> int:
        """More of it, for what is kept of slices that do not fit into registers."""
        return 4 * (_UPPER_INTS + self.in_registers)

    def macros(self) -> dict[str, int]:
        return {name.upper(): value for name, value in asdict(self).items()} | {
            "FIXED_BYTES": self.fixed_bytes,
            "LIST_BYTES": self.list_bytes,
        }

    def words(self, columns: int) -> int:
        """Of marks of one kind, a bit for each score of the largest slice."""
        slice_size = max(self.in_registers, _multiple(_part(columns, self.cluster), 32))
        return _multiple(slice_size, self.threads) // 32

    def shared_bytes(self, columns: int) -> int:
        """Dynamic shared memory in all: marks of two kinds come to it, and lists where slices may be long."""
        lists = self.list_bytes if columns > self.cluster * self.in_registers else 0
        return self.fixed_bytes + 2 * 4 * self.words(columns) + lists


def choose_tuning(rows: int, columns: int, num_multiprocessors: int) -> Tuning:
    """For scores [rows, columns]: as many blocks a row as fill the device, and more where slices would be too long.

    Raises:
        ValueError: there are too many columns for the shared memory of blocks.
    """
    tuning = Tuning(1)
    while tuning.cluster < MAX_CLUSTER and columns > tuning.cluster * tuning.in_registers * (
        1 if 2 * tuning.cluster * rows <= num_multiprocessors else _LONGEST_SLICE
    ):
        tuning = Tuning(2 * tuning.cluster)
    if tuning.shared_bytes(columns) > MAX_SHARED_BYTES:
        raise ValueError(
            f"scores has {columns} columns, for which a block needs {tuning.shared_bytes(columns)} bytes of shared "
            f"memory; it has {MAX_SHARED_BYTES}"
        )
    return tuning


def _part(total: int, parts: int) -> int:
    return -(-total // parts)


def _multiple(value: int, of: int) -> int:
    """The next one from `value` on."""
    return _part(value, of) * of

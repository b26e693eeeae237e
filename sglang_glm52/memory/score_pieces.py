"""How a prefill's indexer scores are cut into pieces that fit a workspace of fixed size.

A prefill batch has `row_counts[r]` new tokens of request r, whose context with them is `lengths[r]` positions long. Its
scores are float32, one for each new token and position. DeepGEMM's kernel writes them to

    align(rows, 4) * align(positions + 256, 64) * 4 bytes

and gives each multiprocessor four rows (32 heads x 4 rows fill its tile) and all positions. So a multiple of four rows
times the number of multiprocessors, a wave, leaves none idle, and with less than a wave some have nothing to do. At the
full window of 1,048,576 positions the 528 rows of a wave on 132 multiprocessors take 2,112.5 MiB. Where the workspace
does not hold a wave, positions are cut instead: each row's best of one part are merged with those of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from sglang_glm52.memory.block_size import allocated

ITEM_BYTES = 4
TILE_ROWS, TILE_POSITIONS = 4, 256
STRIDE = 64  # positions that a row's width is rounded up to


@dataclass(frozen=True, slots=True)
class Piece:
    """Requests [first, last) of a batch, whose keys are gathered together, and how their scores are computed.

    A piece of several requests has one span, all their rows, and is not cut by position.
    """

    first: int
    last: int
    spans: tuple[tuple[int, int], ...]  # [start, stop) among the batch's rows, scored one after the other
    positions: int  # at a time, a multiple of TILE_POSITIONS; no less than there are if they are not cut


def score_bytes(num_rows: int, num_positions: int) -> int:
    """What the kernel allocates for the scores of `num_rows` rows over `num_positions` keys."""
    return _align(num_rows, TILE_ROWS) * _align(num_positions + TILE_POSITIONS, STRIDE) * ITEM_BYTES


def key_bytes(num_positions: int) -> int:
    """What the gathered keys of `num_positions` take: 128 bytes and a float32 scale each."""
    return allocated(num_positions * 128, num_positions * 4)


def cut_batch(
    row_counts: Sequence[int],
    lengths: Sequence[int],
    workspace_bytes: int,
    wave_rows: int,
    window: int,
    rows: tuple[int, int] | None = None,
) -> list[Piece]:
    """Pieces that cover the batch's rows, or those in [start, stop) of `rows`, once and in order.

    What is scored at a time is within `workspace_bytes`. Neighbouring requests share a piece while their scores fit
    together, as every row is as wide as all their contexts, and while their keys do: no piece has more positions than
    `window`, the longest context. A request that does not fit is cut into spans of whole waves, and by position where
    no wave fits.
    """
    start, stop = rows or (0, sum(row_counts))
    counts = _counts_within(row_counts, start, stop)
    first = next((request for request, count in enumerate(counts) if count), len(counts))
    pieces: list[Piece] = []
    while start < stop:
        last, rows_taken, width = first + 1, counts[first], lengths[first]
        while last < len(counts) and counts[last]:
            more_rows, more_width = rows_taken + counts[last], width + lengths[last]
            if more_width > window or score_bytes(more_rows, more_width) > workspace_bytes:
                break
            last, rows_taken, width = last + 1, more_rows, more_width
        step, positions = size_of_pieces(rows_taken, width, workspace_bytes, wave_rows)
        ends = range(start, start + rows_taken, step)
        spans = tuple((begin, min(begin + step, start + rows_taken)) for begin in ends)
        pieces.append(Piece(first, last, spans, positions))
        first, start = last, start + rows_taken
    return pieces


def size_of_pieces(num_rows: int, num_positions: int, workspace_bytes: int, wave_rows: int) -> tuple[int, int]:
    """Rows and positions at a time: all that fits of rows in whole waves, else a wave and positions in equal parts."""
    whole = _align(num_positions, TILE_POSITIONS)
    if score_bytes(num_rows, num_positions) <= workspace_bytes:
        return num_rows, whole
    waves = workspace_bytes // score_bytes(wave_rows, num_positions)
    if waves:
        return waves * wave_rows, whole
    rows = min(num_rows, wave_rows)
    most = workspace_bytes // (_align(rows, TILE_ROWS) * ITEM_BYTES) - TILE_POSITIONS - STRIDE
    assert most >= TILE_POSITIONS, f"{workspace_bytes=} has no room for {rows} rows"
    parts = -(-num_positions // (most - most % TILE_POSITIONS))
    return rows, _align(-(-num_positions // parts), TILE_POSITIONS)


def _counts_within(row_counts: Sequence[int], start: int, stop: int) -> list[int]:
    """How many of each request's rows lie in [start, stop)."""
    ends = list(accumulate(row_counts))
    return [max(0, min(end, stop) - max(end - n, start)) for end, n in zip(ends, row_counts, strict=True)]


def _align(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple

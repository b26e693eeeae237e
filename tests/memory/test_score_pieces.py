"""Pieces of a prefill batch: every row once, in order, and never more memory than the workspace."""

from __future__ import annotations

import random

import pytest

from sglang_glm52.env import Settings
from sglang_glm52.memory.block_size import SMALL_BYTES, memory_kept
from sglang_glm52.memory.score_pieces import (
    TILE_POSITIONS,
    Piece,
    cut_batch,
    key_bytes,
    score_bytes,
    size_of_pieces,
)

WINDOW, CHUNK = 1_048_576, 8192
WAVE = 4 * 132  # an H100's or H200's multiprocessors
MIB = 1 << 20


def widths(pieces: list[Piece], lengths: list[int]) -> list[int]:
    return [sum(lengths[piece.first : piece.last]) for piece in pieces]


def test_bytes_by_hand():
    """Five rows take eight; 1,000 positions and a tile of 256 are 1,256, rounded up to 1,280; four bytes each."""
    assert score_bytes(5, 1000) == 8 * 1280 * 4
    assert score_bytes(WAVE, WINDOW) == 528 * 1_048_832 * 4 == 2112.515625 * MIB


def test_the_default_cuts_the_whole_window_in_two():
    """Half of it, 524,288 positions, and 256 more for 528 rows are 1,056.5 MiB."""
    default = Settings().logits_mib * MIB
    assert size_of_pieces(CHUNK, WINDOW, default, WAVE) == (WAVE, WINDOW // 2)
    assert size_of_pieces(CHUNK, 500_000, default, WAVE) == (WAVE, 500_224)  # whole, rounded up to a tile
    assert size_of_pieces(CHUNK, 131_072, default, WAVE) == (4 * WAVE, 131_072)
    assert size_of_pieces(100, WINDOW, default, WAVE) == (100, WINDOW)
    assert size_of_pieces(CHUNK, WINDOW, 2113 * MIB, WAVE) == (WAVE, WINDOW)


@pytest.mark.parametrize("workspace_mib", [64, 256, 1088, 4096])
@pytest.mark.parametrize("length", [1, 2047, 4001, 131_072, 500_000, WINDOW])
def test_one_long_request(workspace_mib, length):
    rows = min(CHUNK, length)
    [piece] = cut_batch([rows], [length], workspace_mib * MIB, WAVE, WINDOW)
    assert (piece.first, piece.last) == (0, 1)
    sizes = [stop - start for start, stop in piece.spans]
    assert sum(sizes) == rows and piece.spans[0][0] == 0 and piece.spans[-1][1] == rows
    at_a_time = min(piece.positions, length)
    assert max(score_bytes(size, at_a_time) for size in sizes) <= workspace_mib * MIB
    if len(sizes) > 1:
        assert len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0] and sizes[0] % WAVE == 0
    if piece.positions < length:
        assert sizes[0] == min(WAVE, rows) and piece.positions % TILE_POSITIONS == 0
        assert score_bytes(WAVE, piece.positions) > 0.8 * workspace_mib * MIB / 2  # at worst the last part is empty


@pytest.mark.parametrize("seed", range(30))
def test_any_rows_of_any_batch(seed):
    rng = random.Random(seed)
    counts = [rng.choice((1, 3, 64, 500, 2000)) for _ in range(rng.randint(1, 40))]
    lengths = [count + rng.choice((0, 1, 777, 20_000, 300_000)) for count in counts]
    workspace = rng.choice((16, 64, 1024)) * MIB
    start, stop = sorted(rng.choices(range(sum(counts) + 1), k=2)) if seed % 3 else (0, sum(counts))
    pieces = cut_batch(counts, lengths, workspace, WAVE, WINDOW, None if seed % 3 == 0 else (start, stop))
    spans = [span for piece in pieces for span in piece.spans]
    rows = [row for span in spans for row in range(*span)]
    assert rows == list(range(start, stop))
    request_of = [request for request, count in enumerate(counts) for _ in range(count)]
    for piece, width in zip(pieces, widths(pieces, lengths), strict=True):
        at_a_time = min(piece.positions, width)
        assert all(score_bytes(last - first, at_a_time) <= workspace for first, last in piece.spans)
        assert piece.last - piece.first == 1 or (len(piece.spans) == 1 and at_a_time == width <= WINDOW)
        own = request_of[piece.spans[0][0] : piece.spans[-1][1]]
        assert sorted(set(own)) == list(range(piece.first, piece.last)), "a request without rows, or without its keys"


def test_neighbours_share_a_piece_as_long_as_they_fit():
    """Forty rows over four contexts of 100,000 are 61 MiB, fifty over five are 99: four and four and two."""
    pieces = cut_batch([10] * 10, [100_000] * 10, 64 * MIB, WAVE, WINDOW)
    assert [(piece.first, piece.last) for piece in pieces] == [(0, 4), (4, 8), (8, 10)]
    assert [piece.spans for piece in pieces] == [((0, 40),), ((40, 80),), ((80, 100),)]


def test_a_row_is_as_wide_as_its_own_piece_and_not_as_the_batch():
    """64 requests on one prefix of 100,000 tokens: the host's rows are 6.4 million positions wide."""
    lengths = [100_100] * 64
    pieces = cut_batch([100] * 64, lengths, 1088 * MIB, WAVE, WINDOW)
    assert max(widths(pieces, lengths)) < 600_000


def test_no_rows():
    assert cut_batch([], [], 64 * MIB, WAVE, WINDOW) == []
    assert cut_batch([5, 5], [100, 100], 64 * MIB, WAVE, WINDOW, (5, 5)) == []


def test_a_workspace_without_room_for_a_tile_is_a_defect():
    with pytest.raises(AssertionError, match="has no room for 528 rows"):
        cut_batch([CHUNK], [WINDOW], MIB, WAVE, WINDOW)


def test_the_keys_of_a_piece_fit_one_window():
    """Single rows over contexts of 400,000: by their scores eight would share a piece, by their keys two."""
    pieces = cut_batch([1] * 5, [400_000] * 5, 1088 * MIB, WAVE, WINDOW)
    assert [(piece.first, piece.last) for piece in pieces] == [(0, 2), (2, 4), (4, 5)]


def test_what_a_server_keeps():
    assert memory_kept(score_bytes(CHUNK, WINDOW), 1088 * MIB) == 1088 * MIB
    assert memory_kept(score_bytes(2048, 2048), 1088 * MIB) == score_bytes(2048, 2048) <= SMALL_BYTES
    assert memory_kept(score_bytes(CHUNK, CHUNK), 1088 * MIB) == 1088 * MIB
    assert key_bytes(WINDOW) == 132 * WINDOW and key_bytes(1001) == 128_512 + 4_096

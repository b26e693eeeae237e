"""How many bytes of free memory one token of a compact KV pool counts for.

The host divides what `--mem-fraction-static` allows by its bytes a token, the cell. For an FP8 cache it counts
(576 + 132) * 78 = 55,224 and allocates 61,464: the scales of the latents and the second byte of their rotary part are
missing, and its pool takes 11 % more than the fraction allows. Dividing by the 53,940 bytes that a compact pool
allocates would keep to the fraction, but give 2.4 % more tokens and not 13.9 %, and leave idle what users' fractions,
found by trial, allow today. So a fraction keeps its meaning: the compact pool takes as many bytes as the host's would
take at the same fraction. A draft model's pool, which the cell leaves out, has as many slots as the target's and grows
with it, so its bytes count on both sides:

    cell = host's cell * (compact + draft) / (host + draft), rounded up

    FP8 cache                  55,224 *  53,940 /  61,464 = 48,464    13.9 % more tokens
    FP8 cache, MTP layer       55,224 *  54,728 /  62,252 = 48,550    13.7 %
    bf16 cache                100,152 *  92,628 / 100,152 = 92,628     8.1 %
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolShape:
    """What the KV pools of a server hold for a token on one GPU."""

    latent_bytes: int  # of one layer
    key_bytes: int  # of one layer with an indexer: 128 FP8 numbers and a float32 scale
    num_layers: int
    num_with_keys: int  # of them
    num_draft_layers: int  # of the draft model's pool, which has keys in each


def compact_cell(host_cell: int, shape: PoolShape) -> int:
    """The cell with which a compact pool and the draft's beside it take no more than the host's pools would take."""
    host = (shape.latent_bytes + shape.key_bytes) * (shape.num_layers + shape.num_draft_layers)
    compact = host - shape.key_bytes * (shape.num_layers - shape.num_with_keys)
    return -(-host_cell * compact // host)

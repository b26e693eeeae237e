"""Tells one checkpoint from another without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sglang_glm52.quantize.source import CONFIG_FILE, Source

SAMPLES, SAMPLE_BYTES = 16, 4096  # of each shard: a fine-tuned model has the same names, shapes and sizes


def fingerprint(source: Source) -> str:
    """Hash of config.json and of each shard's name, size, and samples from its first byte to its last.

    The folder's place and its files' times do not count, so that a checkpoint may move between two calls.
    """
    digest = hashlib.blake2b((source.folder / CONFIG_FILE).read_bytes(), digest_size=16)
    for name in source.files:
        digest.update(name.encode())
        _add_samples(digest, source.folder / name)
    return digest.hexdigest()


def _add_samples(digest: hashlib.blake2b, file: Path) -> None:
    size = file.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with file.open("rb") as stream:
        for sample in range(SAMPLES):
            stream.seek(max(size - SAMPLE_BYTES, 0) * sample // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))

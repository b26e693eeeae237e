"""Memory in use on the GPUs that this process may use, asked of the driver: no CUDA context takes part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pynvml


@contextmanager
def visible_gpus() -> Iterator[list[pynvml.c_nvmlDevice_t]]:
    """NVML's handles of the GPUs that CUDA_VISIBLE_DEVICES names by index or UUID, in its order; without it, of all."""
    pynvml.nvmlInit()
    try:
        names = os.environ.get("CUDA_VISIBLE_DEVICES")
        if names is None:
            names = ",".join(map(str, range(pynvml.nvmlDeviceGetCount())))
        yield [_handle(name.strip()) for name in names.split(",")]
    finally:
        pynvml.nvmlShutdown()


def used_bytes(gpu: pynvml.c_nvmlDevice_t) -> int:
    """By anybody."""
    return pynvml.nvmlDeviceGetMemoryInfo(gpu).used


def _handle(name: str) -> pynvml.c_nvmlDevice_t:
    return pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)

"""Where a worker's tensors are computed, and how their bytes get there and back: one lane a thread.

On a GPU each lane has its own stream, so that no worker waits for another's kernels, and two pinned buffers, which a
copy needs to run beside the host and at full speed. It waits for the device once a slab, in `download`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

_ALIGNMENT = 512  # of tensors in one buffer


class Lane(Protocol):
    def entered(self) -> AbstractContextManager[Any]:
        """What is computed within runs on this lane."""

    def buffer(self, num_bytes: int) -> torch.Tensor:
        """A uint8 vector on the host to read into; its content may go once the next one is asked for."""

    def upload(self, data: torch.Tensor) -> torch.Tensor:
        """A tensor on the host -> the same on the lane's device, for work on this lane."""

    def download(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The same tensors on the host, contiguous; they may be overwritten by the next call."""


class HostLane:
    """The CPU, which computes where it reads."""

    def entered(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def buffer(self, num_bytes: int) -> torch.Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8)

    def upload(self, data: torch.Tensor) -> torch.Tensor:
        return data

    def download(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [tensor.contiguous() for tensor in tensors]


class StreamLane:
    """A device with streams. `api`: torch.cuda, or what has its Stream, stream and Event."""

    def __init__(self, device: torch.device, api: Any) -> None:
        self._device, self._api = device, api
        self._stream = api.Stream(device)
        self._uploaded, self._downloaded = api.Event(blocking=True), api.Event(blocking=True)  # wait without a core
        self._incoming, self._outgoing = self._host_memory(0), self._host_memory(0)

    def entered(self) -> AbstractContextManager[Any]:
        return self._api.stream(self._stream)

    def buffer(self, num_bytes: int) -> torch.Tensor:
        self._uploaded.synchronize()  # else a copy may still read what is overwritten
        if len(self._incoming) < num_bytes:
            self._incoming = self._host_memory(num_bytes)
        return self._incoming[:num_bytes]

    def upload(self, data: torch.Tensor) -> torch.Tensor:
        uploaded = data.to(self._device, non_blocking=True)
        self._uploaded.record(self._stream)
        return uploaded

    def download(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        ends, total = [], 0
        for tensor in tensors:
            ends.append(total + tensor.nbytes)
            total += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        if len(self._outgoing) < total:
            self._outgoing = self._host_memory(total)
        hosted = [
            self._outgoing[end - tensor.nbytes : end].view(tensor.dtype).view(tensor.shape)
            for tensor, end in zip(tensors, ends, strict=True)
        ]
        for host, tensor in zip(hosted, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        self._downloaded.record(self._stream)
        self._downloaded.synchronize()
        return hosted

    def _host_memory(self, num_bytes: int) -> torch.Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")


_HOST = HostLane()
_of_thread = threading.local()


def lane_on(device: torch.device) -> Lane:
    """The calling thread's lane on a device; it goes with the thread."""
    if device.type == "cpu":
        return _HOST
    lanes: dict[torch.device, Lane] = _of_thread.__dict__.setdefault("lanes", {})
    if device not in lanes:
        lanes[device] = StreamLane(device, torch.cuda)
    return lanes[device]

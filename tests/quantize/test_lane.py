"""The staging of a GPU, run on the CPU with a stand-in for torch.cuda that does a copy as late as it may be done."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from quantize.checkpoints import contents

from sglang_glm52.quantize import lane, work
from sglang_glm52.quantize.convert import convert
from sglang_glm52.quantize.lane import HostLane, StreamLane

CPU = torch.device("cpu")


class Late:
    """A tensor whose copies wait for the stream."""

    def __init__(self, stream: Stream, tensor: torch.Tensor) -> None:
        self.stream, self.tensor = stream, tensor

    def to(self, device: torch.device, non_blocking: bool) -> torch.Tensor:
        assert non_blocking
        out = torch.empty_like(self.tensor)
        self.stream.pending.append(lambda: out.copy_(self.tensor))
        return out


class Stream:
    def __init__(self, device: torch.device) -> None:
        self.pending = []

    def finish(self) -> None:
        while self.pending:
            self.pending.pop(0)()


class Event:
    def __init__(self, blocking: bool) -> None:
        assert blocking
        self.stream = None

    def record(self, stream: Stream) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.finish()


class Api:
    Stream, Event = Stream, Event
    entered = 0

    @classmethod
    @contextmanager
    def stream(cls, stream: Stream):
        cls.entered += 1
        yield


@pytest.mark.parametrize("make", [HostLane, lambda: StreamLane(CPU, Api)])
def test_what_goes_up_comes_down(make):
    staged = make()
    for num_bytes in (64, 4096, 128):  # the buffers grow, and are used again
        data = torch.randint(0, 256, (num_bytes,), dtype=torch.uint8)
        buffer = staged.buffer(num_bytes)
        assert buffer.shape == (num_bytes,) and buffer.dtype == torch.uint8
        buffer.copy_(data)
        with staged.entered():
            there = staged.upload(buffer)
            wanted = [there.view(-1, 8), there[:40].view(torch.float64), there.view(4, -1).t(), there[:2].bfloat16()]
            found = staged.download(wanted)
        for one, expected in zip(found, wanted, strict=True):
            assert one.is_contiguous() and one.dtype == expected.dtype
            assert torch.equal(one.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8))


def test_a_buffer_is_not_given_out_before_its_copy_is_done():
    staged = StreamLane(CPU, Api)
    first = staged.buffer(16).fill_(1)
    there = staged.upload(Late(staged._stream, first))
    assert len(staged._stream.pending) == 1
    staged.buffer(16).fill_(2)
    assert torch.equal(there, torch.ones(16, dtype=torch.uint8))


@pytest.mark.parametrize("fmt", ["fp8", "bf16"])
def test_staging_changes_no_byte(fmt, request, tmp_path, monkeypatch):
    staged = StreamLane(CPU, Api)
    for module in (lane, work):
        monkeypatch.setattr(module, "lane_on", lambda device: staged)
    before = Api.entered
    convert(request.getfixturevalue(fmt), tmp_path / "out", device="cpu", workers=1)
    assert Api.entered > before
    assert contents(tmp_path / "out") == contents(request.getfixturevalue(f"from_{fmt}"))

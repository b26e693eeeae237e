"""Timing on a GPU: a call that must move a known number of bytes takes at least as long as they need."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.bench.moe_layer import case_of, make_routings
from sglang_glm52.bench.moe_measure import copy_bytes_per_second, time_calls

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def test_a_call_takes_as_long_as_its_bytes():
    per_second = copy_bytes_per_second()
    blocks = [torch.ones(1 << 28, device="cuda") for _ in range(3)]  # 1 GiB each
    calls = [lambda inputs, block=block: block.add_(1.0) for block in blocks]
    us = time_calls(calls, make_routings(6, case_of(1, 256, "uniform"), "cuda")).median
    assert us == pytest.approx(2 * 2**30 / per_second * 1e6, rel=0.15)
    assert blocks[0].unique().numel() == 1  # each call ran, on the whole of its block

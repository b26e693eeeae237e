"""That memory is read of the GPU that a process computes on."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.bench.gpu_memory import used_bytes, visible_gpus

pytestmark = pytest.mark.gpu

SIZE = 1 << 30


@pytest.mark.parametrize("index", range(torch.cuda.device_count()))
@pytest.mark.parametrize("by_uuid", [False, True], ids=["index", "UUID"])
def test_a_tensor_is_seen_on_its_gpu(index: int, by_uuid: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"GPU-{torch.cuda.get_device_properties(index).uuid}" if by_uuid else str(index)
    torch.cuda.empty_cache()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
    with visible_gpus() as [gpu]:
        before = used_bytes(gpu)
        held = torch.empty(SIZE, dtype=torch.uint8, device=f"cuda:{index}")
        assert used_bytes(gpu) - before >= held.nbytes

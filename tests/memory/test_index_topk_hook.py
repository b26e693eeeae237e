"""The hook on the host's top-k: this package's kernel in FlashInfer's place, with everything the host hands over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import served
import torch
from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend, TopkTransformMethod
from sglang.srt.plugins.hook_registry import HookType, _wrap_fn

from sglang_glm52.arch import MODEL_TYPE
from sglang_glm52.host.hooks import index_topk as hook
from sglang_glm52.kernels.index_topk import ref
from sglang_glm52.memory import index_selection

ROWS, COLUMNS, TOPK = 3, 40, 8


@pytest.fixture
def hooked(monkeypatch):
    """The host's own enumeration with the hook around its method, in a server of the model type given."""

    def install(model_type: str = MODEL_TYPE):
        original = DSATopKBackend.topk_transform
        monkeypatch.setattr(
            DSATopKBackend, "topk_transform", _wrap_fn(original, hook.select_positions, HookType.AROUND)
        )
        served.serve(monkeypatch, model_type)
        monkeypatch.setattr(index_selection, "index_topk", ref.index_topk)
        return DSATopKBackend.FLASHINFER

    return install


def call(backend: DSATopKBackend, method: TopkTransformMethod, **more) -> torch.Tensor:
    torch.manual_seed(5)
    scores, lengths = torch.randn(ROWS, COLUMNS), torch.tensor([40, 3, 17], dtype=torch.int32)
    batch = SimpleNamespace(
        page_table_1=1000 + torch.arange(ROWS * COLUMNS, dtype=torch.int32).view(ROWS, COLUMNS),
        topk_indices_offset=torch.tensor([0, 500, 900], dtype=torch.int32),
    )
    return backend.topk_transform(
        logits=scores,
        lengths=lengths,
        topk=TOPK,
        topk_transform_method=method,
        attn_metadata=batch,
        cu_seqlens_q_topk=torch.arange(ROWS + 1, dtype=torch.int32),
        topk_indices_offset=batch.topk_indices_offset,
        **more,
    )


def test_a_decode_step_gets_slots_in_the_order_of_positions(hooked) -> None:
    found = call(hooked(), TopkTransformMethod.PAGED)
    assert found[1].tolist() == [1040, 1041, 1042, -1, -1, -1, -1, -1]
    assert all(row[row >= 0].diff().gt(0).all() for row in found) and found[0].min() >= 1000


def test_rows_of_contexts_and_bare_positions(hooked) -> None:
    backend = hooked()
    bare = call(backend, TopkTransformMethod.RAGGED, force_unfused_topk=True)
    ragged = call(backend, TopkTransformMethod.RAGGED)
    assert bare[1].tolist() == [0, 1, 2, -1, -1, -1, -1, -1]
    offsets = torch.tensor([[0], [500], [900]], dtype=torch.int32)
    assert torch.equal(ragged, torch.where(bare < 0, -1, bare + offsets))


@pytest.mark.parametrize(
    "model_type, more",
    [("deepseek_v32", {}), (MODEL_TYPE, {"batch_idx_list": [0]})],
    ids=["another model", "context parallelism"],
)
def test_otherwise_the_host_selects(hooked, monkeypatch, model_type, more) -> None:
    import flashinfer

    backend = hooked(model_type)
    monkeypatch.setattr(flashinfer, "top_k_page_table_transform", lambda *args, **kwargs: "the host's")
    if more:  # the host looks at tables that this batch does not have
        monkeypatch.setattr(
            "sglang.srt.layers.attention.dsa.dsa_topk_backend._build_flashinfer_paged_args",
            lambda **given: (None, None),
        )
    assert call(backend, TopkTransformMethod.PAGED, **more) == "the host's"

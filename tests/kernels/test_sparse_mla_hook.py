"""The hook on the host's attention to selected slots: which ranks the kernel takes, and what it is given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import served
import torch
from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnBackend
from sglang.srt.plugins.hook_registry import HookType, _wrap_fn

from sglang_glm52.arch import MODEL_TYPE
from sglang_glm52.attention import few_heads
from sglang_glm52.env import Settings
from sglang_glm52.host.hooks import sparse_mla as hook
from sglang_glm52.kernels.sparse_mla import ref
from sglang_glm52.kernels.sparse_mla.cases import SCALE, Case, make_inputs

CASE = Case(5, 640, "", selection="ragged")
HOSTS = "the host's"


def attend(monkeypatch, *, model_type: str = MODEL_TYPE, choice: str = "fused", heads: int = 8, **changes):
    """The host's method with the hook around it; kernels are stood in for by the reference and a word."""
    made = make_inputs(CASE, seed=1, device="cpu")
    backend = DeepseekSparseAttnBackend.__new__(DeepseekSparseAttnBackend)
    backend.num_q_heads, backend.dsa_kv_cache_store_fp8, backend.kv_cache_dim = heads, True, 656
    vars(backend).update(changes)
    served.serve(monkeypatch, model_type)
    monkeypatch.setattr(few_heads, "settings", lambda: Settings(sparse_attention=choice))
    monkeypatch.setattr(hook, "sparse_mla", ref.sparse_mla)
    wrapped = _wrap_fn(lambda *args: HOSTS, hook.attend, HookType.AROUND)
    got = wrapped(
        backend,
        q_all=torch.cat([made.q_nope, made.q_rope], dim=2),
        kv_cache=made.cache.view(10, 64, 1, 656),
        v_head_dim=512,
        sm_scale=SCALE,
        layer=SimpleNamespace(tp_q_head_num=8, head_dim=576),
        metadata=None,
        page_table_1=torch.cat([made.slots, made.slots], dim=1)[:, : CASE.topk],
    )
    return got, made


def test_a_rank_of_few_heads_is_attended_here(monkeypatch) -> None:
    got, made = attend(monkeypatch)
    assert torch.equal(got, ref.sparse_mla(*made.tensors(), SCALE)) and got.shape == (5, 8, 512)


@pytest.mark.parametrize(
    "given",
    [
        {"model_type": "deepseek_v32"},
        {"choice": "host"},
        {"heads": 64},
        {"heads": 32},
        {"dsa_kv_cache_store_fp8": False},
    ],
    ids=str,
)
def test_otherwise_the_host_attends(monkeypatch, given) -> None:
    got, _ = attend(monkeypatch, **given)
    assert got == HOSTS

"""The kernel that `--dsa-prefill-backend flashmla_auto` chooses, through the host's own method on the CPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import served
import torch
from sglang.srt.layers.attention import dsa_backend
from sglang.srt.layers.attention.dsa.dsa_topk_backend import TopkTransformMethod
from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnBackend
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.plugins.hook_registry import HookType, _wrap_fn

from sglang_glm52.attention import few_heads
from sglang_glm52.env import Settings
from sglang_glm52.host.hooks import sparse_prefill
from sglang_glm52.memory.dequantised_cache import is_worth_dequantising

WINDOW = 1_048_576


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The served model's config; the hook is wrapped as the host's registry wraps it."""
    hf_config = served.serve(monkeypatch)
    hooked = _wrap_fn(DeepseekSparseAttnBackend.set_dsa_prefill_impl, sparse_prefill.choose_kernel, HookType.AROUND)
    monkeypatch.setattr(DeepseekSparseAttnBackend, "set_dsa_prefill_impl", hooked)
    return hf_config


def make_backend(option: str = "flashmla_auto", **changes: object) -> DeepseekSparseAttnBackend:
    backend = DeepseekSparseAttnBackend.__new__(DeepseekSparseAttnBackend)
    backend.dsa_prefill_impl, backend.enable_auto_select_prefill_impl = option, option == "flashmla_auto"
    backend.dsa_kv_cache_store_fp8, backend.max_context_len, backend.hisparse_coordinator = True, WINDOW, None
    backend.token_to_kv_pool = SimpleNamespace(dtype=torch.float8_e4m3fn)
    backend.num_q_heads = 32  # more than this package's own kernel takes
    vars(backend).update(changes)
    return backend


def prefill(rows: int, contexts: list[int], mode: ForwardMode = ForwardMode.EXTEND) -> SimpleNamespace:
    return SimpleNamespace(
        forward_mode=mode,
        seq_lens_cpu=torch.tensor(contexts),
        seq_lens_sum=sum(contexts),
        extend_num_tokens=rows,
        get_max_chunk_capacity=lambda: 1 << 20,
    )


BATCHES = {
    "the first chunk": (prefill(8192, [8192]), True),
    "the last chunk of the window": (prefill(8192, [WINDOW]), True),
    "a short request on a long prefix": (prefill(100, [100_100]), False),
    "many requests on one prefix": (prefill(6400, [100_100] * 64), False),
    "a prefill with decode steps in it": (prefill(8192, [8192], ForwardMode.MIXED), False),
    "a decode step": (prefill(1, [100], ForwardMode.DECODE), False),
}


@pytest.mark.parametrize("case", BATCHES)
def test_the_choice_of_a_batch(case):
    batch, is_sparse = BATCHES[case]
    backend = make_backend()
    backend.set_dsa_prefill_impl(batch)
    assert backend.dsa_prefill_impl == ("flashmla_sparse" if is_sparse else "flashmla_kv")
    ragged = backend.get_topk_transform_method(batch.forward_mode) == TopkTransformMethod.RAGGED
    assert ragged == is_sparse, "what is selected must be encoded for the kernel that reads it"


@pytest.mark.parametrize(
    "heads, choices, is_sparse",
    [
        (8, {}, False),
        (8, {"sparse_attention": "host"}, True),
        (64, {}, True),
    ],
    ids=["few heads", "not asked for", "many heads"],
)
def test_nothing_is_dequantised_for_this_package_s_kernel(heads, choices, is_sparse, monkeypatch):
    monkeypatch.setattr(few_heads, "settings", lambda: Settings(**choices))
    backend = make_backend(num_q_heads=heads)
    backend.set_dsa_prefill_impl(BATCHES["the last chunk of the window"][0])
    assert backend.dsa_prefill_impl == ("flashmla_sparse" if is_sparse else "flashmla_kv")


def test_the_next_batch_chooses_anew():
    backend = make_backend()
    for case in ("the first chunk", "a decode step", "the last chunk of the window"):
        batch, is_sparse = BATCHES[case]
        backend.set_dsa_prefill_impl(forward_batch=batch)
        assert (backend.dsa_prefill_impl == "flashmla_sparse") == is_sparse
    backend.set_dsa_prefill_impl(forward_batch=None)  # a CUDA graph
    assert backend.dsa_prefill_impl == "flashmla_kv"


def test_other_options_other_caches_and_other_models_keep_the_hosts_choice(model):
    batch, _ = BATCHES["the first chunk"]
    for option in ("flashmla_kv", "flashmla_sparse", "fa3"):
        backend = make_backend(option)
        backend.set_dsa_prefill_impl(batch)
        assert backend.dsa_prefill_impl == option
    model.model_type = "deepseek_v32"
    backend = make_backend()
    backend.set_dsa_prefill_impl(batch)
    assert backend.dsa_prefill_impl == "flashmla_kv"


def test_a_dense_prefill_is_left_alone(monkeypatch):
    """Short prompts attend densely on Hopper; nothing is chosen for them."""
    monkeypatch.setattr("sglang.srt.utils.get_device_sm", lambda: 90)
    monkeypatch.setattr(dsa_backend, "is_dsa_enable_prefill_cp", lambda: False)
    backend = make_backend(dsa_prefill_impl="as before")
    backend.set_dsa_prefill_impl(prefill(1000, [1000]))
    assert backend.use_mha and backend.dsa_prefill_impl == "as before"


def test_the_rule():
    assert is_worth_dequantising(100, 51_199, WINDOW) and not is_worth_dequantising(100, 51_200, WINDOW)
    assert is_worth_dequantising(8192, WINDOW, WINDOW) and not is_worth_dequantising(8192, WINDOW + 1, WINDOW)

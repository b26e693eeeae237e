"""The kernels that select and attend where the user names none, through the host's own method on its own class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from models.test_support import server_args
from sglang.srt.plugins.hook_registry import HookType, _wrap_fn
from sglang.srt.server_args import ServerArgs

from sglang_glm52.env import settings
from sglang_glm52.host.hooks.dsa_defaults import choose_kernels

VARIABLE = "SGLANG_GLM52_INDEX_TOPK"
FP8, BF16 = "fp8_e4m3", "bfloat16"
OTHER = "deepseek_v32"
HOSTS = {  # (cache, major): the host's (prefill, decode)
    (FP8, 9): ("flashmla_kv", "flashmla_kv"),
    (BF16, 9): ("flashmla_sparse", "fa3"),
    (FP8, 10): ("trtllm", "trtllm"),
    (BF16, 10): ("flashmla_sparse", "trtllm"),
}


@pytest.fixture(autouse=True)
def _hooked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hook, wrapped as the host's registry wraps it, and an environment without the variable."""
    hooked = _wrap_fn(ServerArgs._set_default_dsa_backends, choose_kernels, HookType.AROUND)
    monkeypatch.setattr(ServerArgs, "_set_default_dsa_backends", hooked)
    monkeypatch.delenv(VARIABLE, raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def set_topk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_variable(value: str) -> None:
        monkeypatch.setenv(VARIABLE, value)
        settings.cache_clear()

    return set_variable


def chosen(
    model_type: str = "glm_moe_dsa", cache: str = FP8, major: int = 9, **given: object
) -> tuple[str | None, str | None, str]:
    """(prefill, decode, top-k) of a server started with the options `given`."""
    args = server_args(kv_cache_dtype=cache, **given)
    args.get_model_config = lambda: SimpleNamespace(hf_config=SimpleNamespace(model_type=model_type))
    args._set_default_dsa_backends(cache, major)
    return args.dsa_prefill_backend, args.dsa_decode_backend, args.dsa_topk_backend


def test_with_an_fp8_cache_glm52_gets_an_exact_selection_and_a_kernel_for_each_batch():
    assert chosen() == ("flashmla_auto", "flashmla_kv", "flashinfer")


def test_with_a_bf16_cache_it_gets_the_selection_alone():
    assert chosen(cache=BF16) == (*HOSTS[BF16, 9], "flashinfer")


@pytest.mark.parametrize("cache", [FP8, BF16])
def test_on_other_gpus_the_kernels_that_attend_are_the_hosts(cache):
    assert chosen(cache=cache, major=10)[:2] == HOSTS[cache, 10]


@pytest.mark.parametrize("backend", ["flashmla_kv", "flashmla_sparse", "fa3"])
def test_a_prefill_backend_that_was_given_stays(backend):
    assert chosen(dsa_prefill_backend=backend) == (backend, "flashmla_kv", "flashinfer")


def test_a_decode_backend_that_was_given_stays():
    assert chosen(dsa_decode_backend="fa3") == ("flashmla_auto", "fa3", "flashinfer")


@pytest.mark.parametrize("backend", ["torch", "flashinfer"])
def test_a_topk_that_was_given_stays(backend):
    assert chosen(dsa_topk_backend=backend) == ("flashmla_auto", "flashmla_kv", backend)


def test_the_hosts_topk_is_there_on_request(set_topk, caplog):
    set_topk("host")
    assert chosen() == ("flashmla_auto", "flashmla_kv", "sgl-kernel")
    set_topk("exact")
    caplog.set_level("INFO")
    assert chosen()[2] == "flashinfer"
    assert f"{VARIABLE}=host" in caplog.text, "nothing says how to go back"


@pytest.mark.parametrize(("cache", "major"), HOSTS)
def test_another_model_keeps_the_hosts_defaults(cache, major):
    assert chosen(OTHER, cache, major) == (*HOSTS[cache, major], "sgl-kernel")


@pytest.mark.parametrize(("cache", "kernel"), [(FP8, "flashmla_kv"), (BF16, "flashmla_sparse")])
def test_a_server_with_hisparse_keeps_the_hosts_defaults(cache, kernel):
    """It reads the cache with one kernel in both phases."""
    assert chosen(cache=cache, enable_hisparse=True) == (kernel, kernel, "sgl-kernel")

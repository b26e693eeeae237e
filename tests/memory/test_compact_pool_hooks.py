"""Which runner gets a compact KV pool and for how many tokens, through the host's own code on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from models.test_support import ONE_STAGE, server_args
from published_config import published
from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool
from sglang.srt.model_executor import model_runner_kv_cache_mixin as mixin
from sglang.srt.model_executor import pool_configurator
from sglang.srt.plugins.hook_registry import HookType, _wrap_fn
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.env import settings
from sglang_glm52.errors import ConfigError, HostMismatchError
from sglang_glm52.host.hooks.compact_pool import build_compact_pool
from sglang_glm52.host.hooks.compact_pool_size import count_compact_bytes
from sglang_glm52.memory.compact_cell import PoolShape, compact_cell
from sglang_glm52.memory.compact_pool import CompactDsaKVPool, layers_with_keys
from sglang_glm52.models.support import check_supported
from sglang_glm52.planner.kv import FP8, Pool, kv_bytes, slots

ARCH = Glm52Arch.from_config(published())
DTYPES = {FP8: torch.float8_e4m3fn, "bfloat16": torch.bfloat16}
GIB = 2**30
FREE = GIB // 16  # what the pools built here may take: about 1,200 tokens
MTP = {"spec_algorithm": SpeculativeAlgorithm.EAGLE}
OTHER = "deepseek_v32"  # a model with an indexer in every layer
UNSET = ""
COPYING = [
    ({"disaggregation_mode": "prefill"}, "--disaggregation-mode"),
    ({"disaggregation_mode": "decode"}, "--disaggregation-mode"),
    ({"enable_hierarchical_cache": True}, "--enable-hierarchical-cache"),
    ({"enable_hisparse": True}, "--enable-hisparse"),
]


class Runner(mixin.ModelRunnerKVCacheMixin):
    """The part of the host's model runner that sizes and builds KV pools; no weights, no GPU."""

    def __init__(self, model_type: str = "glm_moe_dsa", dtype: str = FP8, stage: range = range(78), **changes: object):
        self.device, self.gpu_id, self.page_size, self.dp_size, self.pp_size = "cpu", 0, 64, 1, 1
        self.tp_rank = self.pp_rank = 0
        self.is_draft_worker = self.is_hybrid_swa = self.enable_hisparse = False
        self.mambaish_config = self.hybrid_gdn_config = self.memory_pool_config = None
        self.req_to_token_pool = self.token_to_kv_pool_allocator = None
        self.use_mla_backend, self.kv_cache_dtype = True, DTYPES[dtype]
        self.spec_algorithm = SpeculativeAlgorithm.NONE
        self.start_layer, self.end_layer, self.num_effective_layers = stage.start, stage.stop, len(stage)
        self.server_args = server_args(page_size=64)
        hf_config = SimpleNamespace(
            architectures=["GlmMoeDsaForCausalLM" if model_type == "glm_moe_dsa" else "DeepseekV32ForCausalLM"],
            **{"model_type": model_type, "index_topk": 2048, "index_head_dim": 128},
        )
        self.model_config = SimpleNamespace(
            **{"hf_config": hf_config, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "context_len": 1024}
        )
        self.model = SimpleNamespace(arch=ARCH)
        vars(self).update(changes)

    def _profile_available_bytes(self, pre_model_load_memory: float) -> int:
        return FREE


@pytest.fixture(autouse=True)
def _hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hooks, wrapped as the host's registry wraps them."""
    for owner, name, hook in (
        (mixin.ModelRunnerKVCacheMixin, "_init_pools", build_compact_pool),
        (pool_configurator.DefaultPoolConfigurator, "_compute_cell_size", count_compact_bytes),
    ):
        monkeypatch.setattr(owner, name, _wrap_fn(getattr(owner, name), hook, HookType.AROUND))
    monkeypatch.setattr(pool_configurator, "get_attention_tp_size", lambda: 8)


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """choose("compact") sets the variable, choose(UNSET) leaves the default."""

    def set_variable(pool: str) -> None:
        monkeypatch.delenv("SGLANG_GLM52_KV_POOL", raising=False)
        if pool != UNSET:
            monkeypatch.setenv("SGLANG_GLM52_KV_POOL", pool)
        settings.cache_clear()

    yield set_variable
    settings.cache_clear()


@pytest.fixture
def built(choose: Callable[[str], None]) -> Callable[..., Runner]:
    """built("compact", ...) is a runner that has sized and built its pool."""

    def build(pool: str, **kwargs: object) -> Runner:
        choose(pool)
        runner = Runner(**kwargs)
        runner.init_memory_pool(0)
        assert mixin.DSATokenToKVPool is DSATokenToKVPool
        return runner

    return build


def test_cells_by_hand():
    shape = {"latent_bytes": 656, "key_bytes": 132, "num_layers": 78, "num_with_keys": 21}
    assert compact_cell(55224, PoolShape(**shape, num_draft_layers=0)) == 48464
    assert compact_cell(55224, PoolShape(**shape, num_draft_layers=1)) == 48550
    assert compact_cell(100152, PoolShape(**shape | {"latent_bytes": 1152}, num_draft_layers=0)) == 92628
    assert compact_cell(55224, PoolShape(**shape | {"num_with_keys": 78}, num_draft_layers=0)) == 55224


def tokens(runner: Runner, gib: float) -> int:
    configurator = pool_configurator.DefaultPoolConfigurator(runner)
    return configurator.calculate_pool_sizes(int(gib * GIB), 64).max_total_num_tokens


@pytest.mark.parametrize(
    ("dtype", "changes", "gain"),
    [(FP8, {}, 1.139), (FP8, MTP, 1.137), ("bfloat16", {}, 1.081), ("bfloat16", MTP, 1.080)],
    ids=["fp8", "fp8-mtp", "bf16", "bf16-mtp"],
)
@pytest.mark.parametrize("gib", [7.3, 71.25])
def test_the_same_memory_holds_more_tokens_in_no_more_bytes(choose, dtype, changes, gain, gib):
    found, taken = {}, {}
    for pool in (Pool.HOST, Pool.COMPACT):
        choose(pool.value)
        found[pool] = tokens(Runner(dtype=dtype, **changes), gib)
        taken[pool] = slots(found[pool]) * kv_bytes(ARCH, dtype, pool, use_mtp=bool(changes)).total
    assert found[Pool.COMPACT] / found[Pool.HOST] > gain >= (1.135 if dtype == FP8 else 1)
    page = 64 * kv_bytes(ARCH, dtype, Pool.COMPACT, use_mtp=True).total
    assert taken[Pool.HOST] - 2 * page < taken[Pool.COMPACT] <= taken[Pool.HOST] + page  # each is cut to whole pages


@pytest.mark.parametrize("pool", ["compact", "auto", UNSET])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_target_model_gets_the_compact_pool(built, dtype, pool):
    runner = built(pool, dtype=dtype)
    assert isinstance(runner.token_to_kv_pool, CompactDsaKVPool)
    assert list(runner.token_to_kv_pool.index_k_with_scale_buffer) == [0, 1, *range(2, 78, 4)]
    assert runner.token_to_kv_pool_allocator.get_kvcache() is runner.token_to_kv_pool
    assert runner.token_to_kv_pool.size == runner.max_total_num_tokens > built("host", dtype=dtype).max_total_num_tokens


def test_a_pipeline_stage_keeps_the_keys_of_its_own_layers(built):
    runner = built("compact", stage=range(38, 78))
    assert list(runner.token_to_kv_pool.index_k_with_scale_buffer) == list(range(0, 40, 4))  # layers 38, 42, ...
    assert runner.max_total_num_tokens > 1.13 * built("host", stage=range(38, 78)).max_total_num_tokens


def test_a_stage_of_full_layers_keeps_the_hosts_pool(built):
    assert type(built("compact", stage=range(3)).token_to_kv_pool) is DSATokenToKVPool


KEPT = [("host", "glm_moe_dsa"), ("host", OTHER), ("compact", OTHER), (UNSET, OTHER)]


@pytest.mark.parametrize(("pool", "model_type"), KEPT)
def test_the_hosts_pool_and_cell_are_left_alone(built, pool, model_type):
    runner = built(pool, model_type=model_type)
    assert type(runner.token_to_kv_pool) is DSATokenToKVPool
    assert pool_configurator.DefaultPoolConfigurator(runner)._cell_size == 55224


def test_the_draft_model_keeps_the_hosts_pool(built):
    """Its only layer has an indexer; it takes the target's number of tokens."""
    target = built("compact", **MTP)
    draft = Runner(
        is_draft_worker=True,
        stage=range(1),
        req_to_token_pool=target.req_to_token_pool,
        token_to_kv_pool_allocator=target.token_to_kv_pool_allocator,
        **{"memory_pool_config": target.memory_pool_config, **MTP},
    )
    draft.init_memory_pool(0)
    assert type(draft.token_to_kv_pool) is DSATokenToKVPool
    assert draft.token_to_kv_pool.size == target.token_to_kv_pool.size
    assert len(draft.token_to_kv_pool.index_k_with_scale_buffer) == 1
    assert layers_with_keys(Runner(stage=range(4))) == {0, 1, 2}
    assert layers_with_keys(Runner(stage=range(4), is_draft_worker=True)) is None  # its layers are not the target's


def test_a_failure_while_the_pool_is_built_leaves_no_trace(choose):
    choose("compact")
    with pytest.raises(AttributeError, match="max_total_num_tokens"):
        Runner(max_running_requests=1)._init_pools()
    assert mixin.DSATokenToKVPool is DSATokenToKVPool


def test_another_pool_than_the_one_asked_for_stops_the_start(choose):
    choose("compact")
    with pytest.raises(HostMismatchError, match="built a SimpleNamespace.*SGLANG_GLM52_KV_POOL=host"):
        build_compact_pool(lambda self: None, Runner(token_to_kv_pool=SimpleNamespace()))


@pytest.mark.parametrize(("changes", "option"), COPYING)
def test_what_copies_all_layers_is_refused_where_the_compact_pool_is_asked_for(choose, changes, option):
    choose("compact")
    check_supported(ARCH, server_args(), ONE_STAGE)
    with pytest.raises(ConfigError, match=f"{option} would copy indexer keys.*SGLANG_GLM52_KV_POOL=compact"):
        check_supported(ARCH, server_args(**changes), ONE_STAGE)
    for pool in ("host", "auto", UNSET):
        choose(pool)
        check_supported(ARCH, server_args(**changes), ONE_STAGE)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the hooks logged about keeping the host's pool."""
    return [r.getMessage() for r in caplog.records if r.name == build_compact_pool.__module__]


@pytest.mark.parametrize(("changes", "option"), COPYING)
def test_what_copies_all_layers_keeps_the_hosts_pool_by_default(choose, caplog, changes, option):
    """Sized and chosen alike: the host's cell, the host's classes, and one line in the log that names the option."""
    caplog.set_level(logging.INFO)
    choose(UNSET)
    args = server_args(page_size=64, **changes)
    runner = Runner(server_args=args, enable_hisparse=args.enable_hisparse)
    assert pool_configurator.DefaultPoolConfigurator(runner)._cell_size == 55224
    runner.init_memory_pool(0)
    assert isinstance(runner.token_to_kv_pool, DSATokenToKVPool)
    assert not isinstance(runner.token_to_kv_pool, CompactDsaKVPool)
    assert len(said(caplog)) == 1 and f"as {option} copies indexer keys of every layer" in said(caplog)[0]


def test_all_options_are_named(choose, caplog):
    caplog.set_level(logging.INFO)
    choose("auto")
    both = {"disaggregation_mode": "prefill", "enable_hierarchical_cache": True}
    Runner(server_args=server_args(page_size=64, **both)).init_memory_pool(0)
    assert "as --disaggregation-mode, --enable-hierarchical-cache copies" in said(caplog)[0]


COPYING_ARGS = {"enable_hierarchical_cache": True}
SILENT = {
    "another rank": (UNSET, COPYING_ARGS, {"tp_rank": 3}),
    "another stage": (UNSET, COPYING_ARGS, {"pp_rank": 1}),
    "another model": (UNSET, COPYING_ARGS, {"model_type": OTHER}),
    "the user's choice": ("host", COPYING_ARGS, {}),
    "the compact pool": (UNSET, {}, {}),
}


@pytest.mark.parametrize("case", SILENT)
def test_nothing_is_said_of(choose, caplog, case):
    """One process of a server says it, and only where an option has changed the pool."""
    pool, options, changes = SILENT[case]
    caplog.set_level(logging.INFO)
    choose(pool)
    Runner(server_args=server_args(page_size=64, **options), **changes).init_memory_pool(0)
    assert said(caplog) == []

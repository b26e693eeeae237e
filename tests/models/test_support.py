"""Server options that would give wrong results, refused with the option to change."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from published_config import published
from sglang.srt.server_args import ServerArgs

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.models.support import check_supported

ARCH = Glm52Arch.from_config(published())
ONE_STAGE = SimpleNamespace(rank_in_group=0, world_size=1)


def server_args(**changes: object) -> ServerArgs:
    """The host's defaults with `changes`, without the checks that need a model."""
    args = object.__new__(ServerArgs)
    for name, field in ServerArgs.__dataclass_fields__.items():
        setattr(args, name, changes.get(name, field.default))
    return args


def test_the_defaults_are_supported():
    check_supported(ARCH, server_args(), ONE_STAGE)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"enable_two_batch_overlap": True}, "--enable-two-batch-overlap"),
        ({"enable_lora": True}, "--enable-lora"),
        ({"enforce_shared_experts_fusion": True}, "--enforce-shared-experts-fusion"),
        ({"enable_dsa_prefill_context_parallel": True}, "--enable-dsa-prefill-context-parallel"),
        ({"enable_prefill_context_parallel": True}, "--enable-prefill-context-parallel"),
        ({"enable_return_indexer_topk": True}, "--enable-return-indexer-topk"),
        ({"enable_eplb": True}, "--enable-eplb"),
        ({"expert_distribution_recorder_mode": "stat"}, "--expert-distribution-recorder-mode"),
        ({"ep_num_redundant_experts": 2}, "--ep-num-redundant-experts"),
        ({"enable_lmcache": True}, "--enable-lmcache"),
        (
            {"dsa_decode_backend": "flashmla_sparse", "kv_cache_dtype": "fp8_e4m3"},
            "--dsa-decode-backend flashmla_sparse reads bf16",
        ),
    ],
)
def test_an_option_is_refused_by_its_flag(changes, flag):
    with pytest.raises(ConfigError, match=flag):
        check_supported(ARCH, server_args(**changes), ONE_STAGE)


MIXED = {"enable_mixed_chunk": True, "dsa_prefill_backend": "flashmla_sparse", "kv_cache_dtype": "fp8_e4m3"}


def test_decode_steps_mixed_into_prefills_keep_fp8_rows_from_the_bf16_kernel():
    with pytest.raises(ConfigError, match="--enable-mixed-chunk with .* use --dsa-prefill-backend flashmla_auto, or "):
        check_supported(ARCH, server_args(**MIXED), ONE_STAGE)


@pytest.mark.parametrize(
    "changes",
    [
        {"enable_mixed_chunk": False},
        {"dsa_prefill_backend": "flashmla_auto"},
        {"dsa_prefill_backend": "flashmla_kv"},
        {"kv_cache_dtype": "bfloat16"},
    ],
    ids=str,
)
def test_each_of_the_three_alone_is_supported(changes):
    check_supported(ARCH, server_args(**(MIXED | changes)), ONE_STAGE)


@pytest.mark.parametrize(("tp", "ep"), [(8, 1), (16, 1), (32, 2), (32, 32)])
def test_whole_groups_on_each_rank_are_supported(tp, ep):
    check_supported(ARCH, server_args(tp_size=tp, ep_size=ep), ONE_STAGE)


def test_part_of_a_group_is_refused_with_the_flags_to_change():
    with pytest.raises(ConfigError, match=r"--tp 32 --ep-size 1 leaves each rank 64 .*raise --ep-size or lower --tp"):
        check_supported(ARCH, server_args(tp_size=32, ep_size=1), ONE_STAGE)


def test_a_stage_starts_at_a_full_layer(monkeypatch):
    with pytest.raises(ConfigError, match=r"stage 1 starts at layer 39.*SGLANG_PP_LAYER_PARTITION"):
        check_supported(ARCH, server_args(), SimpleNamespace(rank_in_group=1, world_size=2))
    monkeypatch.setenv("SGLANG_PP_LAYER_PARTITION", "38,40")
    check_supported(ARCH, server_args(), SimpleNamespace(rank_in_group=1, world_size=2))

"""Options refused together with speculation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from models.test_support import ARCH, server_args

from sglang_glm52.errors import ConfigError
from sglang_glm52.models.support_speculation import check_speculation

EAGLE = {"speculative_algorithm": "EAGLE", "speculative_num_steps": 3, "speculative_eagle_topk": 1}
ANYWHERE = [
    ({"speculative_eagle_topk": 4}, "--speculative-eagle-topk 4 .*use --speculative-eagle-topk 1"),
    ({"enable_hierarchical_cache": True}, "--enable-hierarchical-cache .*indexer keys"),
    ({"enable_custom_logit_processor": True}, "--enable-custom-logit-processor"),
    ({"enable_return_hidden_states": True}, "--enable-return-hidden-states"),
    ({"speculative_algorithm": "NGRAM"}, "--speculative-algorithm NGRAM.*use EAGLE"),
    ({"speculative_adaptive": True}, "--speculative-adaptive"),
]
ON_CPU = [
    ({"speculative_accept_threshold_single": 0.9}, "--speculative-accept-threshold-single"),
    ({"speculative_accept_threshold_acc": 0.9}, "--speculative-accept-threshold-acc"),
    ({"enable_dp_attention": True}, "--enable-dp-attention"),
]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_chain_of_drafts_is_supported(device):
    check_speculation(ARCH, server_args(**EAGLE, device=device))


@pytest.mark.parametrize(("changes", "words"), ANYWHERE)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_refused_on_every_device(device, changes, words):
    with pytest.raises(ConfigError, match=words):
        check_speculation(ARCH, server_args(**(EAGLE | changes), device=device))


@pytest.mark.parametrize(("changes", "words"), ON_CPU)
def test_refused_on_the_cpu_engine(changes, words):
    with pytest.raises(ConfigError, match=words):
        check_speculation(ARCH, server_args(**(EAGLE | changes), device="cpu"))
    check_speculation(ARCH, server_args(**(EAGLE | changes), device="cuda"))


@pytest.mark.parametrize(
    ("name", "value"), [("SGLANG_ENABLE_OVERLAP_PLAN_STREAM", "1"), ("SGLANG_SIMULATE_ACC_LEN", "2")]
)
def test_a_switch_of_the_hosts_is_refused_on_the_cpu_engine(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        check_speculation(ARCH, server_args(**EAGLE, device="cpu"))


def test_a_decode_server_has_no_selection_to_share():
    """A prompt is computed elsewhere, so a pool row would still hold the selection of its last user."""
    args = server_args(**EAGLE, device="cuda", disaggregation_mode="decode")
    with pytest.raises(ConfigError, match="SGLANG_GLM52_MTP_INDEX_SHARE=off"):
        check_speculation(replace(ARCH, index_share_for_mtp=True), args)
    check_speculation(replace(ARCH, index_share_for_mtp=False), args)
    args.speculative_num_steps = 1  # and no later step to share with
    check_speculation(replace(ARCH, index_share_for_mtp=True), args)


def test_a_checkpoint_without_an_mtp_layer_cannot_draft():
    with pytest.raises(ConfigError, match="num_nextn_predict_layers is 0"):
        check_speculation(replace(ARCH, num_mtp_layers=0), server_args(**EAGLE))


@pytest.mark.parametrize("changes", [changes for changes, _ in ANYWHERE if "speculative_algorithm" not in changes])
def test_without_speculation_nothing_is_refused(changes):
    check_speculation(ARCH, server_args(**({"device": "cpu"} | changes)))

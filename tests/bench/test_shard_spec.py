import argparse
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_glm52.bench.shard_spec import MAX_NEW_TOKENS, PAGE, ShardSpec, new_tokens
from sglang_glm52.bench.speculation import Speculation

SPEC = ShardSpec(
    which="ours",
    model_dir="/tmp/model",
    fmt="fp8",
    batches=(1, 16),
    context=4096,
    chunk=8192,
    kv="fp8_e4m3",
    fuse_shared_experts=False,
    seed=1,
    log_level="warning",
)


def test_a_spec_survives_its_json():
    assert ShardSpec.from_json(SPEC.to_json()) == SPEC


ROUNDS = replace(SPEC, speculations=(Speculation(3, 1, 4), Speculation(5, 1, 6)))


def test_settings_of_rounds_survive_their_json():
    assert ShardSpec.from_json(ROUNDS.to_json()) == ROUNDS


def test_rounds_start_with_the_first_setting():
    flags = ROUNDS.server_args()
    assert flags[flags.index("--speculative-num-steps") + 1] == "3" and "--disable-radix-cache" in flags
    assert "--speculative-algorithm" not in SPEC.server_args()


def test_rounds_have_room_for_every_draft_token():
    assert new_tokens(()) == MAX_NEW_TOKENS and ROUNDS.new_tokens > 6 * MAX_NEW_TOKENS
    assert ROUNDS.max_total_tokens() >= 16 * (4096 + ROUNDS.new_tokens)


def test_both_classes_get_the_same_flags():
    assert replace(SPEC, which="host").server_args() == SPEC.server_args()


def test_flags_that_depend_on_the_settings():
    assert "--disable-shared-experts-fusion" in SPEC.server_args()
    assert "--disable-shared-experts-fusion" not in replace(SPEC, fuse_shared_experts=True).server_args()
    assert "--quantization" not in SPEC.server_args()
    assert replace(SPEC, fmt="w4afp8").server_args()[-3:-1] == ["--quantization", "w4afp8"]


@pytest.mark.parametrize("kv", ["fp8_e4m3", "bf16"])
def test_sglang_knows_every_flag(kv):
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    args = parser.parse_args(replace(SPEC, kv=kv).server_args())
    assert args.load_format == "dummy" and args.kv_cache_dtype == kv and args.cuda_graph_bs == [1, 16]
    assert args.disable_piecewise_cuda_graph and args.disable_shared_experts_fusion
    assert args.chunked_prefill_size == 8192 and args.max_running_requests == 16


def test_sglang_knows_the_flags_of_rounds():
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    args = parser.parse_args(ROUNDS.server_args())
    assert (args.speculative_num_steps, args.speculative_eagle_topk, args.speculative_num_draft_tokens) == (3, 1, 4)
    assert args.speculative_algorithm == "EAGLE" and args.disable_radix_cache


@given(
    batches=st.lists(st.integers(1, 64), min_size=1).map(tuple),
    context=st.integers(1, 10**6),
    chunk=st.integers(1, 10**5),
)
def test_the_pool_holds_every_page_at_the_end(batches, context, chunk):
    spec = replace(SPEC, batches=batches, context=context, chunk=chunk)
    pages_of_one = -(-(context + MAX_NEW_TOKENS) // PAGE)
    assert spec.max_total_tokens() // PAGE >= max(max(batches) * pages_of_one, -(-chunk // PAGE))

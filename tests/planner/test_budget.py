"""What fits and what does not: the sums, the choice of --mem-fraction-static, and how each input moves the result."""

from __future__ import annotations

import pytest
from planner.scenarios import WINDOW, plan

from sglang_glm52.env import Settings
from sglang_glm52.errors import ConfigError
from sglang_glm52.planner import workspaces
from sglang_glm52.planner.constants import FEW_HEADS, GIB, INT4_PART_BYTES
from sglang_glm52.planner.gpus import ALIASES, GPUS, custom_gpu, find_gpu
from sglang_glm52.planner.kv import Pool
from sglang_glm52.planner.launch import launch_command
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.planner.report import sections
from sglang_glm52.planner.verdict import find_problem

PUBLISHED_FRACTION = 0.85


@pytest.mark.parametrize("changes", [{}, {"draft_tokens": 2}, {"pool": Pool.HOST}, {"parallel": Parallel(8, dp=8)}])
@pytest.mark.parametrize("form", ["w4afp8", "fp8"])
def test_the_sections_add_up_to_the_gpu(form, changes):
    found = plan(form, **changes)
    assert sum(count for _, count in sections(found)) == found.scenario.gpu.total_bytes


def test_the_window_fits_eight_h200s_in_int4_alone():
    assert find_problem(plan("w4afp8")) is None
    error = find_problem(plan("fp8"))
    assert "1 x 1048576 are 1048576: " in str(error) and "serve the W4AFP8 checkpoint" in str(error)


def test_the_published_server_fits():
    """8 x H200 with EAGLE, SGLang's pool and --mem-fraction-static 0.85 is known to serve nearly the whole window."""
    found = plan(pool=Pool.HOST, draft_tokens=2, mem_fraction_static=PUBLISHED_FRACTION)
    assert find_problem(found) is None and found.full_requests == 1


def test_the_fraction_chosen_is_the_largest_that_leaves_room():
    found = plan()
    assert found.left_bytes >= 0
    assert plan(mem_fraction_static=found.mem_fraction_static + 0.005).left_bytes < 0


def test_too_large_a_fraction_is_short_of_memory_not_of_tokens():
    error = find_problem(plan(mem_fraction_static=0.98))
    assert "--mem-fraction-static 0.98 leaves too little" in str(error) and "leave the option out" in str(error)


def test_too_small_a_fraction_is_short_of_tokens():
    error = find_problem(plan(mem_fraction_static=0.5))
    assert "tokens or " in str(error) and "; leave out --mem-fraction-static or lower --context to " in str(error)


def test_weights_that_do_not_fit():
    error = find_problem(plan("bf16"))
    assert str(error).startswith("weights and workspaces need ") and "h200-141 has 139.81" in str(error)
    assert "serve the W4AFP8 checkpoint or raise --gpus and --tp" in str(error)


def test_what_fits_is_what_the_error_says():
    short = plan(concurrency=4)
    assert f"lower --concurrency to {short.full_requests}" in str(find_problem(short))
    assert find_problem(plan(concurrency=short.full_requests)) is None
    long = plan("fp8", concurrency=2)
    assert f"lower --context to {long.max_tokens // 2}" in str(find_problem(long))
    assert find_problem(plan("fp8", concurrency=2, context=long.max_tokens // 2)) is None


def test_sglangs_pool_takes_more_than_its_fraction():
    """It counts 708 bytes a layer and allocates 788, so a given fraction is overdrawn by a ninth of the pool."""
    found = plan(pool=Pool.HOST, mem_fraction_static=PUBLISHED_FRACTION)
    free = found.scenario.gpu.total_bytes - found.start.value
    allowed = free * PUBLISHED_FRACTION - found.weights_per_gpu
    assert found.pool_bytes / allowed == pytest.approx(788 / 708, rel=1e-3)


def test_each_input_moves_tokens_the_right_way():
    usual = plan().max_tokens
    assert plan(gpu=find_gpu("h100")).max_tokens < usual < plan(gpu=custom_gpu(180.0)).max_tokens
    assert plan(kv_dtype="bfloat16").max_tokens < usual
    assert plan(pool=Pool.HOST).max_tokens < usual
    assert plan(draft_tokens=2).max_tokens < usual
    assert plan("fp8").max_tokens < usual
    assert plan(parallel=Parallel(8, dp=8)).max_tokens < usual
    assert plan(chunked_prefill_size=16384).max_tokens < usual < plan(chunked_prefill_size=2048).max_tokens
    assert plan(context=WINDOW // 8).max_tokens > usual
    fractions = [plan(mem_fraction_static=fraction).max_tokens for fraction in (0.4, 0.6, 0.8, 0.9)]
    assert fractions == sorted(set(fractions))


def test_dp_attention_multiplies_the_pools():
    found = plan(parallel=Parallel(8, dp=8), concurrency=8)
    assert find_problem(found) is None and found.full_requests == 8 * (found.max_tokens // WINDOW)
    assert found.tokens_needed == WINDOW


def test_the_request_table_grows_with_requests():
    """By hand: 64 requests and a row of padding, 1,048,576 + 4 columns of four bytes."""
    few, many = (next(w for w in plan(concurrency=n).workspaces if w.name == "request table") for n in (1, 2048))
    assert few.num_bytes == 65 * 1_048_580 * 4
    assert many.num_bytes == 2049 * 1_048_580 * 4 and many.num_bytes / GIB > 8


def workspace(name: str, **changes: object) -> int:
    return next(space.num_bytes for space in plan(**changes).workspaces if space.name == name)


def test_fused_all_reduces_by_hand():
    """Four buffers of 2,048 rows of 6,144 in bf16 for each GPU of a group, one group for attention, one for experts."""
    of_a_gpu = 4 * 2048 * 6144 * 2
    groups = {Parallel(8): 8 + 8, Parallel(8, ep=4): 8 + 4, Parallel(8, ep=8): 8 + 8, Parallel(8, dp=2): 0}
    for parallel, gpus in groups.items():
        assert workspace("all-reduce fusion", parallel=parallel) == gpus * of_a_gpu
    assert workspace("all-reduce fusion", num_gpus=1, parallel=Parallel(1)) == 0


MANY_HEADS = {"parallel": Parallel(8, dp=4)}  # 32 a GPU
DEQUANTISED = {
    "the window": (MANY_HEADS, WINDOW),
    "a shorter context": (MANY_HEADS | {"context": 65536}, 65536),
    "512 positions a row, in a block for the window": (MANY_HEADS | {"chunked_prefill_size": 4096}, WINDOW),
    "a rank's share of so few rows that no block is taken": (MANY_HEADS | {"chunked_prefill_size": 128}, 32 * 512),
    "a bf16 cache": (MANY_HEADS | {"kv_dtype": "bfloat16"}, 0),
    "few heads": ({}, 0),
}


@pytest.mark.parametrize("case", DEQUANTISED)
def test_what_a_prefill_dequantises(case):
    """By hand: 512 + 64 numbers of two bytes a position."""
    changes, positions = DEQUANTISED[case]
    assert workspace("prefill: dequantised latents", **changes) == positions * 1152


def test_activations_of_int4_experts_by_hand():
    """Rows of 6,144; whole experts of 2,048 on a rank, eight a token, bf16 and FP8; 384 MiB of outputs at a time."""
    stream, tokens, inner = 8192 * 5 * 6144 * 2, 8192 * 6144, 8192 * 8 * 2048 * 3
    found = workspace("prefill: activations", parallel=Parallel(8, ep=8, dp=8))
    assert found == stream + tokens + inner + 384 * 2**20
    few = workspace("prefill: activations", parallel=Parallel(8, ep=8, dp=8), chunked_prefill_size=1024)
    assert few == found // 8 - 48 * 2**20 + 1024 * 8 * 6144 * 2  # all outputs of a small chunk are there together


def test_the_kernels_part_of_the_outputs_is_what_is_planned():
    from sglang_glm52.kernels.int4_experts.grouped import PART_BYTES
    from sglang_glm52.kernels.sparse_mla.kernel import HEADS

    assert PART_BYTES == INT4_PART_BYTES and HEADS == FEW_HEADS


def test_every_figure_has_a_source():
    found = plan()
    assert all(workspace.source for workspace in found.workspaces) and found.start.source
    assert all(gpu.source for gpu in GPUS.values()) and set(ALIASES.values()) <= set(GPUS)


def test_the_command_of_the_published_checkpoint():
    found = plan(draft_tokens=2, mem_fraction_static=PUBLISHED_FRACTION)
    assert launch_command(found) == (
        "python -m sglang.launch_server --model-path PhalaCloud/GLM-5.2-W4AFP8 --tp 8 --quantization w4afp8 "
        "--disable-shared-experts-fusion --kv-cache-dtype fp8_e4m3 --reasoning-parser glm45 --tool-call-parser glm47 "
        "--context-length 1048576 --mem-fraction-static 0.85 --chunked-prefill-size 8192 --max-running-requests 64 "
        "--cuda-graph-max-bs 64 --speculative-algorithm EAGLE --speculative-num-steps 1 --speculative-eagle-topk 1 "
        "--speculative-num-draft-tokens 2"
    )


def test_piecewise_graphs_are_counted_where_they_are_captured():
    name = "piecewise CUDA graphs"
    assert workspace(name) == 1.5 * GIB
    assert workspace(name, draft_tokens=2) == workspace(name, parallel=Parallel(8, dp=8)) == 0


def test_tables_of_rounds_that_wait(monkeypatch):
    """SGLang's rounds, as those of DP attention are: each draft step after the first has a table of its own."""
    monkeypatch.setattr(workspaces, "settings", lambda: Settings(spec_rounds="host"))
    assert workspace("CUDA graphs: page tables", draft_tokens=4) == (256 + 2 * 64) * (WINDOW + 4 + 4) * 4


def test_tables_of_rounds_by_hand():
    """64 requests: of 2 tokens to verify 128 rows, of 4 256, and for the steps after the first 64 more."""
    two, four = (
        workspace("CUDA graphs: page tables", draft_tokens=2),
        workspace("CUDA graphs: page tables", draft_tokens=4),
    )
    assert two == 128 * (WINDOW + 4 + 2) * 4
    assert four == (256 + 64) * (WINDOW + 4 + 4) * 4
    command = launch_command(plan(draft_tokens=4))
    assert command.endswith("--speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4")


def test_the_command_asks_for_sglangs_pool_where_that_was_planned():
    compact, host = (launch_command(plan(pool=pool, mem_fraction_static=0.8)) for pool in (Pool.COMPACT, Pool.HOST))
    assert host == f"SGLANG_GLM52_KV_POOL=host {compact}"


def test_the_command_names_the_parallel_modes():
    command = launch_command(plan("fp8", parallel=Parallel(8, ep=8, dp=4), concurrency=100))
    assert "--tp 8 --ep-size 8 --dp-size 4 --enable-dp-attention --kv-cache-dtype" in command
    assert "--max-running-requests 100 --cuda-graph-max-bs 25" in command and "w4afp8" not in command


BAD = {
    "context": ({"context": WINDOW + 1}, "--context 1048577: expected 1 to 1048576"),
    "no context": ({"context": 0}, "--context 0: expected 1 to 1048576"),
    "concurrency": ({"concurrency": 0}, "--concurrency 0: expected at least 1"),
    "chunk": ({"chunked_prefill_size": 0}, "--chunked-prefill-size 0: expected at least 1"),
    "fraction": ({"mem_fraction_static": 1.0}, "--mem-fraction-static 1: expected a number between 0 and 1"),
    "heads": ({"parallel": Parallel(6)}, "splits 64 heads over 6 GPUs"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_server_starts_with_is_refused(case):
    changes, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        plan(**changes)


def test_unknown_gpus_are_refused_with_the_known():
    with pytest.raises(ConfigError, match="--gpu a100: unknown; expected one of b200, b200-192, h100, .* h200"):
        find_gpu("a100")
    assert find_gpu("H100") is find_gpu("h100-80")
    with pytest.raises(ConfigError, match="--gpu-memory-gib 0: expected a number above 0"):
        custom_gpu(0)

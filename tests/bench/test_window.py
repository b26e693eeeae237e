"""Options, file, table and memory samples of `glm52 bench window`; the engine is in test_window_engine.py."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.shard_config import write_model
from sglang_glm52.bench.window import run
from sglang_glm52.bench.window_file import PhaseResult, latest, read_results, require_settings
from sglang_glm52.bench.window_memory import MemorySampler, read_samples
from sglang_glm52.bench.window_options import add_arguments, chosen_phases, make_spec
from sglang_glm52.bench.window_plan import planned
from sglang_glm52.bench.window_plot import picture
from sglang_glm52.bench.window_report import report, summary
from sglang_glm52.bench.window_requests import random_prompt, time_requests
from sglang_glm52.bench.window_spec import WindowSpec, all_phases
from sglang_glm52.errors import ConfigError

WHERE = Environment(gpu="H200", driver="1", torch="2", sglang="3", commit=None)


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


def spec(*argv: str) -> WindowSpec:
    return make_spec(parse(*argv), "ours", Path("/tmp/nowhere"))


def result(which: str, phase: str, **values: object) -> PhaseResult:
    return PhaseResult(which=which, phase=phase, settings={"prompt": 1000}, environment=WHERE, values=values)


def test_the_defaults_are_the_whole_window_as_a_user_would_serve_it():
    engine = spec().engine_args()
    assert engine["context_length"] == 1_048_576 and engine["chunked_prefill_size"] == 8192
    assert engine["kv_cache_dtype"] == "fp8_e4m3" and engine["mem_fraction_static"] == 0.85
    assert engine["quantization"] == "w4afp8" and engine["load_format"] == "dummy"
    assert not {"disable_radix_cache", "disable_cuda_graph"} & engine.keys()
    profiles = ("profile 1048000", "profile 131072", "profile 8192")
    assert all_phases(spec()) == ("context 8192", "context 131072", "first", "second", "crowd", *profiles)


def test_a_short_version():
    short = spec("--layers", "4", "--prompt", "4000", "--decode", "16", "--format", "fp8")
    assert all_phases(short) == ("first", "second", "crowd", "profile 4000") and short.quantization is None
    assert short.settings()["model"] == "rank shard, fp8, 4 layers"
    assert WindowSpec.from_json(short.to_json()) == short


def test_further_fields_of_the_server_args():
    changed = spec("--set", "dsa_prefill_backend=flashmla_sparse", "--set", "stream_interval=2", "--set", "dtype=auto")
    engine = changed.engine_args()
    assert (engine["dsa_prefill_backend"], engine["stream_interval"], engine["dtype"]) == ("flashmla_sparse", 2, "auto")
    assert changed.settings() != spec().settings()
    with pytest.raises(SystemExit):
        spec("--set", "stream_interval")


def test_the_packages_variables_are_settings(monkeypatch):
    monkeypatch.setenv("SGLANG_GLM52_KV_POOL", "compact")
    assert spec().settings()["variables"] == {"SGLANG_GLM52_KV_POOL": "compact"}


def test_phases_run_in_one_order_whatever_is_asked_for():
    args = parse("--phases", "crowd,first")
    assert chosen_phases(args, make_spec(args, "ours", Path("/tmp"))) == ["first", "crowd"]
    args = parse("--phases", "start", "--set", "speculative_num_draft_tokens=2")
    assert chosen_phases(args, make_spec(args, "ours", Path("/tmp"))) == ["start"]
    args = parse("--phases", "third")
    with pytest.raises(
        ConfigError, match="--phases third: expected some of start, context 8192, context 131072, first"
    ):
        chosen_phases(args, make_spec(args, "ours", Path("/tmp")))


def test_what_has_no_room_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--prompt 1048576: with --decode 512 and 64 .* leaves room for 1048000"):
        spec("--prompt", "1048576")
    with pytest.raises(ConfigError, match="--out .*: there is no folder"):
        run(parse("--out", str(tmp_path / "none" / "out.jsonl")))
    with pytest.raises(ConfigError, match="there is no config.json in it"):
        run(parse("--model", str(tmp_path)))


def test_the_file_keeps_what_was_measured(tmp_path):
    path = tmp_path / "out.jsonl"
    assert read_results(path) == []
    for value in (1.0, 2.0):
        result("ours", "first", first_token_s=value).append_to(path)
    result("host", "first", first_token_s=4.0).append_to(path)
    found = latest(read_results(path))
    assert found["ours"]["first"].values["first_token_s"] == 2.0 and found["host"]["first"].environment == WHERE
    require_settings(path, read_results(path), {"prompt": 1000})
    with pytest.raises(ConfigError, match="was begun with prompt = 1000, now it is 2000"):
        require_settings(path, read_results(path), {"prompt": 2000})


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '{"which": "ours"}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "out.jsonl").write_text(text)
    with pytest.raises(ConfigError, match="expected lines that --out wrote"):
        read_results(tmp_path / "out.jsonl")


def test_the_table_has_both_classes_and_their_ratio():
    results = {
        "ours": {"first": result("ours", "first", first_token_s=200.0, peak_bytes=130_000_000_000, step_ms=None)},
        "host": {
            "start": result("host", "start", tokens_that_fit=1_416_000),
            "first": result("host", "first", first_token_s=256.0, peak_bytes=136_700_000_000),
        },
    }
    lines = report(results, 1000).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]] == [
        ["start: tokens that fit", "1416000", "-", "-"],
        ["first prompt of 1000: time to first token, s", "256.00", "200.00", "0.781"],
        ["first prompt of 1000: most device memory, GB", "136.70", "130.00", "0.951"],
    ]
    assert summary(results)["host"]["start"] == {"tokens_that_fit": 1_416_000}


def test_the_parts_of_a_profile_have_a_table_of_their_own():
    parts = {"chunk_parts_ms": {"indexer": 900.0, "norms": 20.0}, "step_parts_ms": {"indexer": 1.5}}
    results = {
        "ours": {"first": result("ours", "first", first_token_s=200.0, **parts)},
        "host": {"first": result("host", "first", first_token_s=256.0)},
    }
    heading, header, _, *rows = report(results, 1000).split("\n\n")[1].splitlines()
    assert heading == "first prompt of 1000: ms of kernels"
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in (header, *rows)] == [
        ["", "last chunk, host", "last chunk, ours", "decode step, host", "decode step, ours"],
        ["indexer", "-", "900.000", "-", "1.500"],
        ["norms", "-", "20.000", "-", "-"],
        ["sum", "0.000", "920.000", "0.000", "1.500"],
    ]


def test_samples_are_taken_before_while_and_after(tmp_path):
    used = iter(range(1, 10_000))
    with MemorySampler(tmp_path / "m.csv", "ours", lambda: next(used), 0.02) as sampler:
        with sampler.during("start"):
            time.sleep(0.2)
        with sampler.during("first"):
            pass
    samples = read_samples(tmp_path / "m.csv")
    assert [sample.used_bytes for sample in samples] == list(range(1, len(samples) + 1))
    assert sum(sample.phase == "start" for sample in samples) > 3 and samples[0].which == "ours"
    assert sampler.peaks["start"] < sampler.peaks["first"] == max(s.used_bytes for s in samples if s.phase == "first")
    assert picture(samples, "title").startswith(b"\x89PNG")


def test_a_phase_that_is_over_has_no_later_samples(tmp_path):
    used = iter(range(1, 10_000))
    with MemorySampler(tmp_path / "m.csv", "ours", lambda: next(used), 0.01) as sampler:
        with sampler.during("first"):
            pass
        peak = sampler.peaks["first"]
        time.sleep(0.1)
    assert sampler.peaks["first"] == peak == read_samples(tmp_path / "m.csv")[-1].used_bytes


class FakeEngine:
    """Streams three tokens for each prompt, the last two of a prompt together."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def generate(self, input_ids, sampling_params, stream):
        assert stream and sampling_params["ignore_eos"] and sampling_params["max_new_tokens"] == 3
        for so_far in (1, 3)[: self.tokens]:
            for place in range(len(input_ids)):
                time.sleep(0.005)
                meta = {"completion_tokens": so_far, "cached_tokens": 7, "finish_reason": {"type": "length"}}
                yield {"index": place, "meta_info": meta}


def test_timings_of_prompts_sent_together():
    timings, elapsed = time_requests(FakeEngine(2), [[1, 2], [3, 4, 5]], 3)
    assert [timing.prompt_tokens for timing in timings] == [2, 3]
    assert all(timing.cached_tokens == 7 and timing.new_tokens == 3 for timing in timings)
    assert 0.005 <= timings[0].first_token_s < timings[1].first_token_s < elapsed
    assert timings[0].step_ms is None  # fewer steps than those left out after a prefill


def test_a_prompt_that_is_cut_short_is_an_error():
    with pytest.raises(RuntimeError, match="a prompt of 2 tokens got 1 of 3"):
        time_requests(FakeEngine(1), [[1, 2]], 3)


def test_prompts_differ_by_seed_alone():
    assert random_prompt(50, 100, "1 first") == random_prompt(50, 100, "1 first") != random_prompt(50, 100, "1 second")


def test_the_plan_is_that_of_the_engine_s_options(tmp_path):
    """Against `glm52 plan` of the same shard, whose total has a margin and the piecewise graphs of a server in it."""
    model = write_model(tmp_path / "model", "w4afp8", 78)
    gpu_bytes = int(139.81 * 2**30)
    args = parse("--crowd", "64")
    ours, host = (planned(make_spec(args, which, model), gpu_bytes) for which in ("ours", "host"))
    assert set(host) == {"planned_tokens"} and ours["planned_tokens"] / host["planned_tokens"] > 1.135
    words = ["plan", str(model), "--gpu-memory-gib", "139.81", "--gpus", "1", "--mem-fraction-static", "0.85"]
    done = subprocess.run(
        [sys.executable, "-m", "sglang_glm52.cli", *words, "--no-mtp", "--concurrency", "64", "--json"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    plan = json.loads(done.stdout)
    assert ours["planned_tokens"] == plan["max_tokens"]
    not_there = sum(plan["workspaces"][name]["bytes"] for name in ("margin", "piecewise CUDA graphs"))
    assert ours["planned_bytes"] == plan["gpu_bytes"] - plan["left_bytes"] - not_there
    drafted = planned(make_spec(parse("--set", "speculative_num_draft_tokens=2"), "ours", model), gpu_bytes)
    assert drafted["planned_tokens"] < ours["planned_tokens"]

"""Flags, loads, plan, file and tables of `glm52 bench node`; servers are in test_node_engine.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from sglang_glm52.bench.node import missing_phases, run
from sglang_glm52.bench.node_load import Load, LoadError, client_command, load_of, load_values, problem_of, send
from sglang_glm52.bench.node_memory import plan_values, planned_on_cuda, reported, require_memory
from sglang_glm52.bench.node_model import published_config, write_tokenizer, write_unweighted
from sglang_glm52.bench.node_options import add_arguments, check, make_spec
from sglang_glm52.bench.node_report import sections, summary
from sglang_glm52.bench.node_run import NodeRun, measure
from sglang_glm52.bench.node_spec import PHASES, NodeSpec
from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.bench.window_file import PhaseResult, latest
from sglang_glm52.errors import ConfigError
from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.gpus import find_gpu
from sglang_glm52.planner.model import preset_model
from sglang_glm52.planner.weights import MTP, weight_bytes
from sglang_glm52.tiny import build

WHERE = Environment(gpu="H200", driver="1", torch="2", sglang="3", commit=None)
EAGLE = Speculation.from_text("3-1-4")
SETTINGS = {"is_seeded": True, "acceptance": 0.8, "input": 8192, "output": 1024, "concurrency": 16}
CLIENT_LINE = {
    "duration": 20.0,
    "completed": 1,
    "total_output_tokens": 1024,
    "median_ttft_ms": 500.0,
    "median_tpot_ms": 12.5,
    "output_throughput": 64.0,
    "accept_length": None,
}


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return write_unweighted(tmp_path_factory.mktemp("published") / "model", published_config())


def flag(words: list[str], name: str) -> str:
    assert words.count(name) == 1, words
    return words[words.index(name) + 1]


def result(which: str, phase: str, **values: object) -> PhaseResult:
    return PhaseResult(which=which, phase=phase, settings=SETTINGS, environment=WHERE, values=values)


def test_the_defaults_are_the_published_server(published):
    spec = make_spec(parse(), published)
    words = spec.server_flags(None)
    assert "--disable-shared-experts-fusion" in words and not {"--ep-size", "--dp-size"} & set(words)
    for name, value in {
        "--quantization": "w4afp8",
        "--tp": "8",
        "--kv-cache-dtype": "fp8_e4m3",
        "--reasoning-parser": "glm45",
        "--tool-call-parser": "glm47",
        "--context-length": "1048576",
        "--mem-fraction-static": "0.85",
        "--load-format": "dummy",
    }.items():
        assert flag(words, name) == value
    assert not [word for word in words if word.startswith("--speculative")]
    assert NodeSpec(**{**spec.settings(), "model_dir": spec.model_dir}).settings() == spec.settings()


def test_experts_and_attention_split_otherwise(published):
    words = make_spec(parse("--ep", "8", "--dp", "8", "--server-args", "--stream-interval 2"), published)
    flags = words.server_flags(None)
    assert flag(flags, "--ep-size") == flag(flags, "--dp-size") == flag(flags, "--cuda-graph-max-bs") == "8"
    assert "--enable-dp-attention" in flags and flag(flags, "--stream-interval") == "2"


def test_simulated_acceptance_counts_the_token_of_the_target(published):
    spec = make_spec(parse("--acceptance", "0.8"), published)
    assert flag(spec.server_flags(EAGLE), "--speculative-num-draft-tokens") == "4"
    assert float(spec.server_environ(EAGLE)["SGLANG_SIMULATE_ACC_LEN"]) == pytest.approx(1 + 0.8 + 0.64 + 0.512)
    assert "SGLANG_SIMULATE_ACC_LEN" not in spec.server_environ(None)


def test_acceptance_is_simulated_for_drawn_weights_alone(published, tmp_path):
    assert make_spec(parse(), published).acceptance == 0.8
    checkpoint = build(tmp_path / "model")
    spec = make_spec(parse("--model", str(checkpoint), "--tp", "1"), checkpoint)
    assert spec.acceptance is None and "SGLANG_SIMULATE_ACC_LEN" not in spec.server_environ(EAGLE)
    assert not spec.is_seeded and "--load-format" not in spec.server_flags(EAGLE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--long", "1048577"], "--long 1048577"),
        (["--input", "1048000"], "--input 1048000"),
        (["--device", "cpu"], "name a tiny one with --model"),
        (["--mem-fraction-static", "1.5"], "--mem-fraction-static 1.5"),
        (["--model", "/nowhere"], "no config.json"),
        (["--out", "/nowhere/at/all.jsonl"], "there is no folder"),
    ],
)
def test_a_wrong_option_is_refused_before_a_server_starts(options, words):
    with pytest.raises(ConfigError, match=words):
        check(parse(*options))


def test_a_length_is_not_refused_for_a_phase_that_is_not_measured():
    check(parse("--long", "1048577", "--phases", "single,memory"))


@pytest.mark.parametrize("options", [["--phases", "fast"], ["--speculative", "3-2-4"], ["--acceptance", "1.2"]])
def test_an_unknown_word_is_refused(options, capsys):
    with pytest.raises(SystemExit):
        parse(*options)
    assert options[0] in capsys.readouterr().err


def test_a_split_that_the_model_does_not_take_is_refused(published):
    with pytest.raises(ConfigError, match="--ep 3 does not divide --tp 8"):
        make_spec(parse("--ep", "3"), published)


def test_phases_run_in_their_own_order():
    assert parse("--phases", "many,memory").phases == ("memory", "many")
    assert parse().phases == PHASES


def test_loads(published, tmp_path):
    spec = make_spec(parse("--repeats", "2"), published)
    assert load_of(spec, "long") == Load(1, 1, 1_000_000, 64, 0)
    assert load_of(spec, "single") == Load(2, 1, 8192, 1024, 1)
    assert load_of(spec, "many") == Load(32, 16, 8192, 1024, 1)
    words = client_command(spec, load_of(spec, "many"), 3000, tmp_path / "out")
    assert flag(words, "--num-prompts") == "32" and flag(words, "--max-concurrency") == "16"
    assert flag(words, "--random-range-ratio") == "1" and "--flush-cache" in words


def test_numbers_of_the_client():
    one = load_values(Load(1, 1, 8192, 1024, 1), CLIENT_LINE)
    assert (one["prefill_tok_s"], one["decode_tok_s"], one["output_tok_s"]) == (16384.0, 80.0, 64.0)
    many = load_values(Load(32, 16, 8192, 1024, 1), CLIENT_LINE)
    assert many["prefill_tok_s"] is None and many["decode_tok_s"] is None and many["ttft_ms"] == 500.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"completed": 0, "total_output_tokens": 0}, "0 of 1 requests"),
        ({"total_output_tokens": 1}, "1 of 1024 tokens"),
        ({"median_ttft_ms": 0.0}, "no request brought text"),
    ],
)
def test_an_answer_that_ended_early_is_no_measurement(changes, words):
    problem = problem_of(Load(1, 1, 8192, 1024, 1), CLIENT_LINE | changes)
    assert problem is None if words is None else words in problem


def test_a_client_that_is_not_done_in_time_is_an_error(published, tmp_path):
    spec = make_spec(parse(), published)
    with pytest.raises(LoadError, match="not done after 1 s"):
        send(spec, Load(1, 1, 8, 8, 0), 1, tmp_path, timeout_seconds=1)


def test_a_server_that_takes_too_long_is_a_row(tmp_path):
    config = {**published_config(4), "vocab_size": 512}
    spec = make_spec(parse("--device", "cpu", "--tp", "1"), write_unweighted(tmp_path / "model", config))
    node_run = NodeRun(spec=spec, which="ours", speculation=None, start_timeout=1, phase_timeout=1)
    rows: list[tuple[str, dict]] = []
    assert not measure(node_run, PHASES, tmp_path / "log", tmp_path, lambda *row: rows.append(row))
    [(phase, values)] = rows
    assert phase == "start" and "no healthy server after" in values["error"]


def test_the_tokenizer_has_a_word_for_every_id(tmp_path):
    write_tokenizer(tmp_path, 1000)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = [0, 999, 5, 5]
    assert tokenizer.vocab_size == 1000 and tokenizer.encode(tokenizer.decode(ids)) == ids


def test_the_unweighted_folder_is_the_published_model(published):
    spec = make_spec(parse(), published)
    want = weight_bytes(preset_model("w4afp8"), spec.parallel)
    plan = planned_on_cuda(spec, "ours", None, find_gpu("h200").total_bytes)
    del want[MTP]
    assert spec.form == "w4afp8" and plan_values(plan)["weights_bytes"] == sum(want.values())


def test_the_plan_is_of_the_class_and_its_speculation(published):
    spec = make_spec(parse(), published)
    total = find_gpu("h200").total_bytes
    ours, host, eagle = (
        planned_on_cuda(spec, which, speculation, total)
        for which, speculation in (("ours", None), ("host", None), ("ours", EAGLE))
    )
    assert ours.max_tokens > host.max_tokens > 1_048_576
    assert plan_values(eagle)["weights_bytes"] == plan_values(ours)["weights_bytes"]
    assert eagle.weights_per_gpu > ours.weights_per_gpu
    for plan in (ours, host, eagle):
        assert plan_values(plan)["kv_bytes"] < plan_values(plan)["used_bytes"] < total
    without = plan_values(ours, ("--disable-piecewise-cuda-graph",))
    assert plan_values(ours)["used_bytes"] - without["used_bytes"] == 1.5 * GIB


def test_more_memory_than_a_gpu_has_is_said_before_a_server_starts(tmp_path):
    """On two H200 the servers with EAGLE ran out of memory, one at start and one in its first prompt; no others did."""
    folder = write_unweighted(tmp_path / "model", published_config(16))
    argv = ["--tp", "2", "--layers", "16", "--context-length", "140000", "--long", "131072"]
    flags = "--server-args=--disable-piecewise-cuda-graph"
    spec, h200 = make_spec(parse(*argv, flags), folder), find_gpu("h200").total_bytes
    both = [(None, "ours"), (Speculation.from_text("1-1-2"), "ours")]
    require_memory(spec, both[:1], h200)
    with pytest.raises(
        ConfigError, match=r"0\.85: planned are ours 1-1-2 151\.\d GB of .*150\.1; lower it to 0\.8\d*,"
    ):
        require_memory(spec, both, h200)
    with pytest.raises(ConfigError, match=r"planned are ours none .* of .*42\.9; use more GPUs"):
        require_memory(spec, both[:1], 40 * GIB)
    for size in ("--max-total-tokens 200000", "--max-total-tokens=200000"):
        require_memory(make_spec(parse(*argv, f"{flags} {size}"), folder), both, h200)


def test_what_a_server_reports():
    usage = {"weight": 48.5, "kvcache": 60.68, "token_capacity": 1059968, "graph": 1.25}
    found = reported({"internal_states": [{"memory_usage": usage}]})
    assert found == {
        "weights_bytes": int(48.5 * GIB),
        "kv_bytes": round(60.68 * GIB),
        "graph_bytes": int(1.25 * GIB),
        "tokens": 1059968,
    }


def test_a_failed_phase_is_measured_again():
    rows = [result("ours", "none memory", x=1), result("ours", "none long", error="gone")]
    assert missing_phases(rows, "ours", None, PHASES) == ["long", "single", "many"]
    rows += [result("ours", "none long", x=1), result("host", "none single", x=1), result("ours", "3-1-4 many", x=1)]
    assert missing_phases(rows, "ours", None, PHASES) == ["single", "many"]
    assert missing_phases(rows, "ours", EAGLE, PHASES) == ["memory", "long", "single"]


def test_the_tables():
    sizes = {"weights_bytes": 48 * GIB, "kv_bytes": 60 * GIB, "tokens": 1000, "used_bytes_by_gpu": [1]}
    planned = {"weights_bytes": 50 * GIB, "kv_bytes": 60 * GIB, "tokens": 900, "used_bytes": 1}
    found = latest(
        [
            result("ours", "none memory", measured=sizes, planned=planned),
            result("ours", "3-1-4 single", output_tok_s=130.0),
            result("ours", "none single", output_tok_s=90.0, decode_tok_s=100.0),
            result("host", "none single", output_tok_s=60.0, decode_tok_s=80.0),
            result("host", "none many", error="the server ended\nits log ends: boom"),
        ]
    )
    speeds, memory, notes, failures = sections(found, SETTINGS)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (speeds + "\n" + memory).splitlines()]
    assert ["no speculation, single: decode tok/s", "80.00", "100.00", "1.250", "-"] in rows
    assert ["no speculation, single: output tok/s", "60.00", "90.00", "1.500", "75.00"] in rows
    assert ["EAGLE 3-1-4, single: output tok/s", "-", "130.00", "-", "118.00"] in rows
    assert ["ours, no speculation: weights, GiB", "48.00", "50.00", "0.960"] in rows
    assert ["ours, no speculation: tokens in a pool", "1000", "900", "1.111"] in rows
    assert "Acceptance is simulated, 0.8" in notes and "host, none many failed: the server ended" in failures
    assert summary(found)["host"]["none many"]["error"].startswith("the server ended")


def test_published_numbers_stand_beside_the_published_load_alone():
    found = latest([result("ours", "none single", output_tok_s=90.0)])
    assert "75.00" in "\n".join(sections(found, SETTINGS))
    assert "75.00" not in "\n".join(sections(found, {**SETTINGS, "output": 128}))


def test_a_measurement_of_a_checkpoint_has_no_notes():
    found = latest([result("ours", "3-1-4 single", output_tok_s=90.0)])
    assert len(list(sections(found, {**SETTINGS, "is_seeded": False, "acceptance": None}))) == 1


def test_too_few_gpus_are_said_before_a_server_starts(tmp_path):
    with pytest.raises(ConfigError, match=r"--tp 16: \d+ CUDA GPUs were found"):
        run(parse("--tp", "16", "--out", str(tmp_path / "node.jsonl"), "--phases", "memory"))

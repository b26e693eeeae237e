"""`glm52 bench window` on SGLang's CPU engine, with a shard small enough for it; a cut-off run is taken up again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.test_shard_engine import SMALL

from sglang_glm52.bench.shard_config import rank_shard
from sglang_glm52.bench.window_file import PhaseResult, latest, read_results
from sglang_glm52.bench.window_memory import read_samples

SLOTS, PROMPT, DECODE, CROWD = 1600, 500, 8, 3
OPTIONS = (
    *("--which", "ours", "--device", "cpu", "--dtype", "float32", "--chunk", "128", "--log-level", "error"),
    *("--context-length", "1024", "--prompt", str(PROMPT), "--decode", str(DECODE), "--contexts", "90,4096"),
    *("--crowd", str(CROWD), "--max-total-tokens", str(SLOTS), "--sample-seconds", "0.2"),
)


def bench(folder: Path, *options: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command with an --out in `folder`."""
    environ = {**os.environ, "SGLANG_USE_CPU_ENGINE": "1"}
    command = [sys.executable, "-m", "sglang_glm52.cli", "bench", "window", *OPTIONS, "--model", str(folder / "model")]
    command += ["--out", str(folder / "window.jsonl"), *options]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The phases one after the other, in two calls: first the crowd, then the rest."""
    folder = tmp_path_factory.mktemp("window")
    config = {**rank_shard("fp8", num_layers=4), **SMALL}
    del config["quantization_config"]
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text(json.dumps(config))
    for options in (("--phases", "crowd"), ("--plot", str(folder / "memory.png"))):
        status, out, err = bench(folder, *options)
        assert status == 0, err[-4000:]
        (folder / "out.txt").write_text(out)
    return folder


@pytest.fixture(scope="module")
def found(folder) -> dict[str, PhaseResult]:
    return latest(read_results(folder / "window.jsonl"))["ours"]


def test_each_phase_is_measured_once_over_both_calls(folder, found):
    phases = [result.phase for result in read_results(folder / "window.jsonl")]
    rest = ["start", "context 90", "first", "second", "profile 500", "profile 90"]  # 4096 does not fit before 500
    assert phases == ["start", "crowd", *rest]
    assert set(found) == set(phases)


def test_tokens_that_fit_and_times(found):
    assert found["start"].values["tokens_that_fit"] == SLOTS
    assert 0 < found["start"].values["start_s"] < found["start"].values["ready_s"]
    for phase, length in (("context 90", 90), ("first", PROMPT), ("second", PROMPT)):
        values = found[phase].values
        assert values["prompt_tokens"] == length and values["new_tokens"] == DECODE and values["cached_tokens"] == 0
        assert values["prefill_tokens_per_s"] == pytest.approx(length / values["first_token_s"])
        assert values["step_ms"] > 0


def test_the_last_chunk_is_profiled_alone(found):
    """Of the long prompt six pages are in the cache, all but the last 116 tokens; one of a chunk has nothing there."""
    assert found["profile 500"].values["last_chunk"] == 116 and found["profile 90"].values["last_chunk"] == 90


def test_the_second_prompt_evicts(found):
    """Warm-up, context and first leave 729 slots: three prompts of 90 are sent, so that 500 do not fit any more."""
    assert found["first"].values["evicted_tokens"] == 0
    before = 257 + 8 + 98 + 508 + 3 * 91
    assert found["second"].values["evicted_tokens"] == before + 508 - SLOTS == 52


def test_the_crowd(found):
    values = found["crowd"].values
    assert values["requests"] == CROWD and values["new_tokens_per_s"] == pytest.approx(CROWD * 64 / values["all_s"])
    assert 0 < values["first_token_s"] <= values["last_first_token_s"] < values["all_s"]


def test_memory_is_sampled_in_every_phase(folder, found):
    samples = read_samples(folder / "window.memory.csv")
    assert {sample.phase for sample in samples} == set(found)
    for phase in set(found) - {"start"}:
        used = [sample.used_bytes for sample in samples if sample.phase == phase]
        assert len(used) >= 2 and found[phase].values["peak_bytes"] == max(used)
    assert (folder / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_and_the_last_line(folder, found):
    lines = (folder / "out.txt").read_text().splitlines()
    assert lines[0].split("|")[2].strip() == "host" and "start: tokens that fit" in lines[2]
    assert any("second prompt of 500: decode step, ms" in line for line in lines)
    record = json.loads(lines[-1])
    assert record["bench"] == "window" and record["results"]["ours"]["crowd"] == dict(found["crowd"].values)
    assert record["settings"]["prompt"] == PROMPT and "model_dir" not in record["settings"]


def test_nothing_is_measured_twice_and_other_settings_are_refused(folder):
    before = (folder / "window.jsonl").read_text()
    status, out, _ = bench(folder)
    assert status == 0 and json.loads(out.splitlines()[-1])["bench"] == "window"
    status, _, err = bench(folder, "--seed", "2")
    assert status == 2 and "was begun with seed = 1, now it is 2; give another --out" in err
    assert (folder / "window.jsonl").read_text() == before


def test_another_class_than_the_one_asked_for_stops_the_scheduler(folder, tmp_path):
    """SGLANG_PLUGINS keeps the plugin out of the host's worker; without a GPU the host has no GLM-5.2 at all."""
    status, _, err = bench(folder, "--which", "host", "--out", str(tmp_path / "host.jsonl"))
    assert status == 1 and "measuring host failed" in err and not (tmp_path / "host.jsonl").exists()

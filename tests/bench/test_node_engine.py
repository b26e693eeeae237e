"""`glm52 bench node` on SGLang's CPU engine: TP 2 as two processes (gloo), every phase under SGLang's own client."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from bench.test_shard_engine import SMALL

from sglang_glm52.bench.node_spec import PHASES
from sglang_glm52.bench.shard_config import rank_shard
from sglang_glm52.bench.window_file import PhaseResult, latest, read_results
from sglang_glm52.planner.constants import GIB

LONG, INPUT, OUTPUT, CONCURRENCY, REPEATS = 600, 70, 12, 3, 2
SLOTS = 65536
VOCAB = 16384  # so that no two prompts begin with the same id
HALF_STEP = 0.0051 * GIB  # the server rounds to hundredths of a GiB
OPTIONS = (
    *("--device", "cpu", "--tp", "2", "--speculative", "none", "--context-length", "1024", "--chunk", "256"),
    *("--long", str(LONG), "--input", str(INPUT), "--output", str(OUTPUT), "--concurrency", str(CONCURRENCY)),
    *("--repeats", str(REPEATS), "--server-args", f"--max-total-tokens {SLOTS} --log-level info"),
)


def bench(folder: Path, *options: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command with an --out in `folder`."""
    command = [sys.executable, "-m", "sglang_glm52.cli", "bench", "node", *OPTIONS, "--model", str(folder / "model")]
    command += ["--out", str(folder / "node.jsonl"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One server of this package's class, which passes all phases, and one of the host's, which needs a GPU."""
    folder = tmp_path_factory.mktemp("node")
    config = {**rank_shard("fp8", num_layers=4), **SMALL, "vocab_size": VOCAB}
    del config["quantization_config"]
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text(json.dumps(config))
    status, out, err = bench(folder)
    assert status == 1, err[-4000:]
    (folder / "out.txt").write_text(out)
    return folder


@pytest.fixture(scope="module")
def found(folder) -> dict[str, dict[str, PhaseResult]]:
    return latest(read_results(folder / "node.jsonl"))


def test_every_phase_is_measured(found):
    rows = found["ours"]
    assert list(rows) == ["none start", *(f"none {phase}" for phase in PHASES)]
    assert not [name for name, row in rows.items() if "error" in row.values], rows


def test_the_loads_are_those_asked_for(found):
    for phase, requests, concurrency, length, new in (
        ("long", 1, 1, LONG, 64),
        ("single", REPEATS, 1, INPUT, OUTPUT),
        ("many", REPEATS * CONCURRENCY, CONCURRENCY, INPUT, OUTPUT),
    ):
        values = found["ours"][f"none {phase}"].values
        asked = ("requests", "concurrency", "input_tokens", "output_tokens")
        assert [values[name] for name in asked] == [requests, concurrency, length, new]
        assert values["output_tok_s"] == pytest.approx(requests * new / values["duration_s"], rel=1e-3)
        assert 0 < values["tpot_ms"] < values["duration_s"] * 1000 and values["ttft_ms"] > 0
    single = found["ours"]["none single"].values
    assert single["prefill_tok_s"] == pytest.approx(INPUT / single["ttft_ms"] * 1000)
    assert found["ours"]["none many"].values["prefill_tok_s"] is None


def test_no_prompt_was_in_the_cache(folder):
    """But for the client's warm-up, whose prompt comes again: the cache is flushed after it."""
    log = (folder / "node.ours.none.log").read_text().splitlines()
    events = [line for line in log if "Prefill batch" in line or "Cache flushed" in line]
    assert sum("Cache flushed" in line for line in events) == 3
    for line, after in pairwise(events):
        is_cached = "Prefill batch" in line and "#cached-token: 0" not in line
        assert not is_cached or "Cache flushed" in after, line
    assert "#cached-token: 0" in events[-1]


def test_both_ranks_serve_the_class_asked_for(folder):
    log = (folder / "node.ours.none.log").read_text()
    assert "TP0]" in log and "TP1]" in log and "tp_size=2" in log


def test_memory_is_what_was_planned(found):
    values = found["ours"]["none memory"].values
    measured, planned = values["measured"], values["planned"]
    assert measured["tokens"] == planned["tokens"] == SLOTS
    assert planned["kv_bytes"] > 0.05 * GIB and abs(measured["kv_bytes"] - planned["kv_bytes"]) <= HALF_STEP
    assert set(planned) <= set(measured)


def test_a_server_that_does_not_start_is_a_row_with_its_log(found):
    rows = found["host"]
    assert list(rows) == ["none start"]
    error = rows["none start"].values["error"]
    assert error.startswith("the server ended with status 1; its log ends:") and "NVIDIA" in error


def test_the_tables_and_the_last_line(folder, found):
    lines = (folder / "out.txt").read_text().splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[2:-1]] == ["host", "ours", "ours / host", "published"]
    for words in ("no speculation, long: prefill tok/s", "no speculation, many: output tok/s", "Weights are drawn"):
        assert any(words in line for line in lines), words
    record = json.loads(lines[-1])
    assert record["bench"] == "node" and record["settings"]["tp"] == 2
    assert record["results"]["ours"]["none many"] == dict(found["ours"]["none many"].values)


def test_nothing_is_measured_twice_and_other_settings_are_refused(folder):
    before = (folder / "node.jsonl").read_text()
    status, out, _ = bench(folder, "--which", "ours")
    assert status == 0 and json.loads(out.splitlines()[-1])["bench"] == "node"
    status, _, err = bench(folder, "--which", "ours", "--seed", "2")
    assert status == 2 and "was begun with seed = 1, now it is 2; give another --out" in err
    assert (folder / "node.jsonl").read_text() == before

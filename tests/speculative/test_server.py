"""The server with the published flags reports how much of its drafts is accepted: in its log, /metrics and answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sglang_glm52.testing.server import CPU_ENVIRON, free_port, launch_command, running_server
from sglang_glm52.tiny import build

OPTIONS = (
    *("--speculative-algorithm", "EAGLE", "--speculative-num-steps", "3", "--speculative-eagle-topk", "1"),
    *("--speculative-num-draft-tokens", "4", "--enable-metrics", "--decode-log-interval", "1"),
    *("--context-length", "2048", "--max-total-tokens", "4096", "--device", "cpu", "--dtype", "float32"),
)


def test_acceptance_is_reported(tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "model", overrides={"num_hidden_layers": 4}, mtp_acceptance=1.0)
    port, log = free_port(), tmp_path / "log"
    body = {"text": "a" * 100, "sampling_params": {"max_new_tokens": 81, "temperature": 0, "ignore_eos": True}}
    with running_server(launch_command(checkpoint, port, OPTIONS), port, log=log, environ=CPU_ENVIRON) as server:
        meta = server.post("/generate", body)["meta_info"]
        metrics = server.get("/metrics").decode()
    assert meta["completion_tokens"] == 81 and meta["spec_verify_ct"] == 20  # one from the prefill, four a round
    assert meta["spec_accept_rate"] == pytest.approx(1.0)
    assert re.search(r"accept len: 4\.00, accept rate: 1\.00", log.read_text())
    gauge = re.search(r"^sglang:spec_accept_length\{.*\} ([0-9.]+)$", metrics, re.MULTILINE)
    assert gauge and float(gauge.group(1)) == pytest.approx(4.0)

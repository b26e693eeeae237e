"""The server with the published flags: it reports how much of its drafts is accepted, and keeps to a grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sglang_glm52.testing.server import CPU_ENVIRON, Server, free_port, launch_command, running_server
from sglang_glm52.tiny import build

OPTIONS = (
    *("--speculative-algorithm", "EAGLE", "--speculative-num-steps", "3", "--speculative-eagle-topk", "1"),
    *("--speculative-num-draft-tokens", "4", "--enable-metrics", "--decode-log-interval", "1"),
    *("--context-length", "2048", "--max-total-tokens", "4096", "--device", "cpu", "--dtype", "float32"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("speculation"), free_port()
    checkpoint = build(folder / "model", overrides={"num_hidden_layers": 4}, mtp_acceptance=1.0)
    command = launch_command(checkpoint, port, OPTIONS)
    with running_server(command, port, log=folder / "log", environ=CPU_ENVIRON) as server:
        yield server


def test_acceptance_is_reported(server: Server) -> None:
    body = {"text": "a" * 100, "sampling_params": {"max_new_tokens": 81, "temperature": 0, "ignore_eos": True}}
    meta = server.post("/generate", body)["meta_info"]
    metrics = server.get("/metrics").decode()
    assert meta["completion_tokens"] == 81 and meta["spec_verify_ct"] == 20  # one from the prefill, four a round
    assert meta["spec_accept_rate"] == pytest.approx(1.0)
    assert re.search(r"accept len: 4\.00, accept rate: 1\.00", server.log.read_text())
    gauge = re.search(r"^sglang:spec_accept_length\{.*\} ([0-9.]+)$", metrics, re.MULTILINE)
    assert gauge and float(gauge.group(1)) == pytest.approx(4.0)


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_drafts_against_the_grammar_are_not_kept(server: Server, temperature: float) -> None:
    """The drafts follow the checkpoint's text, which no grammar knows."""
    sampling = {"regex": "[0-9]{3}-[a-f]{12}", "max_new_tokens": 40, "temperature": temperature}
    answer = server.post("/generate", {"text": "a" * 100, "sampling_params": sampling})
    assert re.fullmatch(sampling["regex"], answer["text"]), answer["text"]
    assert answer["meta_info"]["spec_verify_ct"] > 0

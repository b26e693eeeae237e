"""`glm52 doctor` on the SGLang that is installed: the whole ledger installs, applies and is proved."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sglang_glm52 import cli
from sglang_glm52.host import doctor
from sglang_glm52.host.doctor import Addition, Report
from sglang_glm52.host.ledger import HOOKS, REGISTRATIONS


@pytest.mark.parametrize(("engine", "is_cpu"), [("cpu", "1"), ("cuda", "0")])
def test_every_addition_the_engine_needs_is_on(engine, is_cpu):
    done = subprocess.run(
        [sys.executable, "-m", "sglang_glm52.cli", "doctor", "--json"],
        env={**os.environ, "SGLANG_USE_CPU_ENGINE": is_cpu},
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(done.stdout)
    states = {addition["name"]: addition["state"] for addition in report["hooks"] + report["registrations"]}
    expected = {a.name: "on" if a.when in ("always", engine) else "not needed" for a in (*HOOKS, *REGISTRATIONS)}
    assert states == expected, done.stderr[-4000:]
    assert report["engine"] == engine and report["is_host_tested"] and report["packages"]["torch"] == "2.11.0"
    if engine == "cuda" and not report["gpus"]:
        assert done.returncode == 1 and len(report["problems"]) == 1 and "no GPU" in report["problems"][0]
    else:
        assert done.returncode == 0 and report["can_serve"] and report["problems"] == []


def test_a_gpu_that_no_kernel_is_made_for_is_a_problem(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"NVIDIA {('H200', 'A100')[device]}")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: ((9, 0), (8, 0))[device])
    monkeypatch.setattr(doctor, "require_host", lambda: None)
    [problem] = doctor._problems("cuda", ("NVIDIA H200", "NVIDIA A100"))
    assert "NVIDIA A100" in problem and "(8, 0)" in problem and "(9, 0)" in problem


def test_a_problem_is_printed_and_sets_the_status(monkeypatch, capsys):
    broken = Addition("gate", "sglang.Gate.forward", "broken", "installed, but the host did not apply it")
    report = Report(
        host="0.5.14",
        is_host_tested=False,
        python="3.11.7",
        engine="cuda",
        gpus=("NVIDIA H200",),
        driver="580.65",
        packages={"torch": "2.11.0"},
        registrations=(),
        hooks=(Addition("pool", "sglang.Pool", "on", ""), broken),
        problems=("hooks not applied",),
    )
    monkeypatch.setattr("sglang_glm52.host.doctor.examine", lambda: report)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "SGLang 0.5.14 (NOT tested), Python 3.11.7",
        "GPU: NVIDIA H200, driver 580.65; cuda engine",
        "packages: torch 2.11.0",
        "registrations: none",
        "hooks: 2",
        "  on          pool: sglang.Pool",
        "  broken      gate: sglang.Gate.forward (installed, but the host did not apply it)",
        "problem: hooks not applied",
        "a GLM-5.2 server would refuse to start here",
    ]

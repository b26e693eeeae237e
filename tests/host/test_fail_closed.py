"""A GLM-5.2 server with anything amiss refuses to start and says what; another model's server is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def outcomes():
    """{case: {"refusal": ..., "llama": ..., "changed": [...]}} from fail_closed_cases.py."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fail_closed_cases.py"))],
        env={**os.environ, "SGLANG_USE_CPU_ENGINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("renamed_target", ["HostMismatchError", "hook broken does not fit this SGLang", "_renamed"]),
        ("changed_signature", ["HostMismatchError", "has no parameter parameter_of_another_version"]),
        ("untested_version", ["HostMismatchError", "SGLang 0.5.13.post1 is installed", "==0.4.0", "pip install"]),
        ("bad_variable", ["SGLANG_GLM52_NO_SUCH_VARIABLE"]),
        ("model_does_not_import", ["HostMismatchError", "registration model", "sglang_glm52.models.gone"]),
        ("hook_not_applied", ["HostMismatchError", "hooks not applied in this process", "cpu_server_args"]),
        ("plugin_not_loaded", ["HostMismatchError", "was not loaded in this process", "SGLANG_PLUGINS"]),
    ],
)
def test_glm_refuses_to_start_and_says_why(outcomes, case, words):
    refusal = outcomes[case]["refusal"]
    assert all(word in refusal for word in words), refusal


@pytest.mark.parametrize("case", ["renamed_target", "changed_signature", "untested_version", "bad_variable"])
def test_a_misfit_leaves_the_host_unchanged(outcomes, case):
    assert outcomes[case]["changed"] == []


def test_without_a_misfit_the_guard_lets_the_model_be_built(outcomes):
    assert outcomes["nothing"]["changed"], "the plugin changed nothing: is it installed in this environment?"
    assert "HostMismatchError" not in outcomes["nothing"]["refusal"]


def test_other_models_keep_the_hosts_class(outcomes):
    assert {outcome["llama"] for outcome in outcomes.values()} == {"sglang.srt.models.llama"}

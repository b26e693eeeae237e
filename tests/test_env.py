"""Settings from environment variables, on a stand-in settings class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sglang_glm52.env import Settings, markdown_table, one_of, read, settings, variable
from sglang_glm52.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    router: str = variable("float32", one_of("float32", "host"), "float32 or host", "precision of the router")
    workspace_mib: int = variable(256, int, "a whole number of MiB", "bound of the logits workspace")


def test_unset_variables_keep_their_defaults():
    assert read(StandIn, {"PATH": "/bin", "SGLANG_OTHER": "1"}) == StandIn(router="float32", workspace_mib=256)


def test_set_variables_are_parsed():
    environ = {"SGLANG_GLM52_ROUTER": "host", "SGLANG_GLM52_WORKSPACE_MIB": "64"}
    assert read(StandIn, environ) == StandIn(router="host", workspace_mib=64)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SGLANG_GLM52_ROUTER", "bf16", "expected float32 or host"),
        ("SGLANG_GLM52_ROUTER", "", "expected float32 or host"),
        ("SGLANG_GLM52_WORKSPACE_MIB", "64M", "expected a whole number of MiB"),
    ],
)
def test_a_bad_value_is_refused_with_name_value_and_what_is_accepted(name, value, expected):
    with pytest.raises(ConfigError, match=rf"^{name}='{value}': {expected}"):
        read(StandIn, {name: value})


def test_a_misspelt_variable_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="SGLANG_GLM52_ROUTE; known: SGLANG_GLM52_ROUTER, SGLANG_GLM52_WORKSPACE_MIB"):
        read(StandIn, {"SGLANG_GLM52_ROUTE": "host"})


def test_the_table_has_a_row_a_variable():
    table = markdown_table(StandIn)
    assert "| `SGLANG_GLM52_ROUTER` | float32 or host | `float32` | precision of the router |" in table
    assert len(table.splitlines()) == 4


def test_the_document_has_the_table():
    assert markdown_table(Settings) in (Path(__file__).parents[1] / "docs/architecture.md").read_text()


def test_this_process_reads_its_environment_once(monkeypatch):
    settings.cache_clear()
    first = settings()
    monkeypatch.setenv("SGLANG_GLM52_SET_TOO_LATE", "1")
    assert settings() is first and isinstance(first, Settings)
    settings.cache_clear()
    with pytest.raises(ConfigError, match="SGLANG_GLM52_SET_TOO_LATE"):
        settings()

from __future__ import annotations

import pytest

from sglang_glm52.commands.tiny import parse_override
from sglang_glm52.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_hidden_layers=4", ("num_hidden_layers", 4)),
        ("indexer_types=null", ("indexer_types", None)),
        ('indexer_types=["full", "shared"]', ("indexer_types", ["full", "shared"])),
        ("index_topk_pattern=FSS", ("index_topk_pattern", "FSS")),
        ("note=a=b", ("note", "a=b")),
    ],
)
def test_an_override_is_json_or_a_plain_string(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["num_hidden_layers", "=4", ""])
def test_an_override_without_a_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_override(text)

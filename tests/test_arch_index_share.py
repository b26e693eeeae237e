from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_config import published

from sglang_glm52.arch_index_share import formula_types, read_indexer_types
from sglang_glm52.errors import ConfigError

FULL_LAYERS = (0, 1, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58, 62, 66, 70, 74)
FORMULA = {"index_topk_freq": 4, "index_skip_topk_offset": 3}
TYPES = ["full", "full", "full", "shared", "shared", "shared", "full", "shared"]


def full_layers(types: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(layer for layer, kind in enumerate(types) if kind == "full")


def test_the_published_pattern():
    types = read_indexer_types(published(), 78)
    assert full_layers(types) == FULL_LAYERS
    assert types.count("shared") == 57


@pytest.mark.parametrize(
    "config",
    [
        {"indexer_types": TYPES},
        {"index_topk_pattern": "FFFSSSFS"},
        {"index_topk_pattern": TYPES},
        FORMULA,
        {"indexer_types": TYPES, "index_topk_pattern": "FFFSSSFS", **FORMULA},
        {"indexer_types": None, "index_topk_pattern": None, **FORMULA},
    ],
)
def test_each_source_says_the_same(config):
    assert read_indexer_types(config, 8) == tuple(TYPES)


def test_without_a_pattern_no_layer_shares():
    assert read_indexer_types({}, 3) == ("full", "full", "full")
    assert read_indexer_types({"index_topk_freq": 1}, 3) == ("full", "full", "full")


def test_the_formula_without_an_offset():
    assert full_layers(read_indexer_types({"index_topk_freq": 4}, 12)) == (0, 1, 5, 9)


@given(num_layers=st.integers(1, 100), freq=st.integers(1, 10), offset=st.integers(1, 10))
def test_the_formula_never_leaves_layer_0_without_a_selection(num_layers, freq, offset):
    full = full_layers(formula_types(num_layers, freq, offset))
    assert full[: min(offset, num_layers)] == tuple(range(min(offset, num_layers)))
    later = [layer for layer in full if layer >= offset - 1]
    assert all(b - a == freq for a, b in zip(later, later[1:], strict=False))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"indexer_types": TYPES, "index_topk_freq": 2},
            r"indexer_types and index_topk_freq disagree about .* \[2",
        ),
        ({"index_topk_pattern": "FFFSSSFF", **FORMULA}, r"index_topk_pattern and index_topk_freq disagree .* \[7\]"),
        ({"indexer_types": TYPES, "index_topk_pattern": "FFFFSSFS"}, r"disagree about layers \[3\]"),
        ({"index_topk_pattern": "SFFSSSFS"}, "index_topk_pattern makes layer 0 'shared'"),
        ({"indexer_types": TYPES[:7]}, "indexer_types names 7 layers, num_hidden_layers is 8"),
        ({"index_topk_pattern": "FFFSSSFX"}, "index_topk_pattern has 'X'; expected 'full' or 'shared'"),
        ({"indexer_types": 8}, "indexer_types has 8; expected"),
        ({"index_topk_freq": 0}, "index_topk_freq = 0; expected an integer of at least 1"),
        ({"index_topk_freq": "4"}, "index_topk_freq = '4'"),
        ({"index_topk_freq": 4, "index_skip_topk_offset": 0}, "index_skip_topk_offset = 0"),
    ],
)
def test_what_cannot_be_trusted_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        read_indexer_types(config, 8)

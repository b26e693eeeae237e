"""Folding names loses none of them."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st
from published_config import published

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.models.name_ranges import fold_names
from sglang_glm52.models.weights import expected_shapes


def unfold(line: str) -> list[str]:
    """The names behind one line, by the notation's definition."""
    parts = re.split(r"(\{[\d,-]+\})", line)
    choices = [expand(part) if part.startswith("{") else [part] for part in parts]
    return ["".join(choice) for choice in itertools.product(*choices)]


def expand(braces: str) -> list[str]:
    numbers = []
    for run in braces[1:-1].split(","):
        first, _, last = run.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return list(map(str, numbers))


ALL = [  # three layers, a few experts of each
    name
    for name in expected_shapes(Glm52Arch.from_config(published()), range(2, 5), first_stage=True, last_stage=True)
    if not re.search(r"\.experts\.(\d{2,}|[6-9])\.", name)
]


@given(st.lists(st.sampled_from(ALL), unique=True))
def test_every_name_is_in_exactly_one_line(names):
    found = [name for line in fold_names(names) for name in unfold(line)]
    assert sorted(found) == sorted(names)


def test_a_whole_model_is_a_few_lines():
    arch = Glm52Arch.from_config(published())
    lines = fold_names(expected_shapes(arch, range(78), first_stage=True, last_stage=True))
    assert len(lines) < 40
    assert "model.layers.{3-77}.mlp.experts.{0-255}.up_proj.weight" in lines
    assert (
        "model.layers.{0-2,6,10,14,18,22,26,30,34,38,42,46,50,54,58,62,66,70,74}.self_attn.indexer.wk.weight" in lines
    )


def test_what_follows_a_name_keeps_lines_apart():
    assert fold_names(["model.layers.0.a has shape (1,)", "model.layers.1.a has shape (1,)", "b"]) == [
        "model.layers.{0-1}.a has shape (1,)",
        "b",
    ]

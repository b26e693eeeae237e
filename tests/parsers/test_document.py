"""docs/parsers.md holds the table that the cases give."""

from __future__ import annotations

from pathlib import Path

from parsers.comparison import comparison, verdict

DOCUMENT = Path(__file__).parents[2] / "docs" / "parsers.md"


def test_the_table_is_not_stale():
    assert comparison() in DOCUMENT.read_text(), "run `PYTHONPATH=tests python -m parsers.comparison` and paste it"


def test_verdicts():
    assert verdict([]) == "right"
    assert verdict(["whole", "by token", "random 1"]) == "wrong: whole and streamed"
    assert verdict(["by character"]) == "wrong if a tag is cut"

"""Tables, picture and file of `glm52 bench moe`, from made-up numbers."""

from __future__ import annotations

import json

import pytest
from bench.moe_made_up import MISSING, TIMES, made_up

from sglang_glm52.bench.moe_plot import picture
from sglang_glm52.bench.moe_report import crossover, sections, summary
from sglang_glm52.bench.moe_result import MoeResult
from sglang_glm52.bench.record import Record


def cells(text: str, first: str) -> list[str]:
    """The table row that begins with `first`."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    [found] = [row for row in rows if row[0] == first]
    return found


def section(title: str) -> str:
    [found] = [text for text in sections(made_up()) if text.startswith(title)]
    return found


def test_times_stand_beside_the_floor():
    assert cells(section("us a call"), "64") == [
        "64",
        "222.5",
        "540.0",
        "125.0",
        "200.0",
        "400.0",
        "200.0",
        "210.0",
        "-",
    ]


def test_ratios_are_to_our_time_and_their_mean_is_geometric():
    text = section("times the time")
    assert cells(text, "1") == ["1", "4.00", "1.00", "9.00", "-"]
    assert cells(text, "geometric mean")[1] == "2.52"  # of 4, 2 and 2


def test_every_measurement_has_its_rates():
    [row] = [line for line in section("every measurement").splitlines() if line.startswith("| host") and " 64 " in line]
    found = [cell.strip() for cell in row.strip("|").split("|")]
    assert found == ["host", "64", "400.0", "399.0 - 402.0", "1350", "12.5", "31%", "3.50%"]


def test_what_failed_is_said_once():
    lines = section("not measured").splitlines()[1:]
    assert lines == ["decode at 1024: ValueError: at most 128 tokens", f"humming-w4a8: {MISSING}"]


def test_the_crossover_is_where_the_grouped_path_wins_for_good():
    assert crossover(made_up()) == 1024  # 64: 200 against 210; above, the decode path takes none
    assert crossover(made_up({**TIMES, "grouped": {1: 90.0, 64: 190.0, 1024: 300.0}})) == 64
    late = {"decode": {1: 10.0, 64: 300.0, 1024: 200.0}, "grouped": {1: 90.0, 64: 190.0, 1024: 300.0}}
    assert crossover(made_up(late)) is None


def test_the_printed_entry_is_python_for_the_table():
    entry = section("entry of MEASURED").splitlines()[-1].strip()
    assert eval(f"{{{entry}}}") == {"NVIDIA H200": {256: 1024}}


def test_no_crossover_says_so():
    late = {"decode": {1: 10.0, 64: 20.0, 1024: 200.0}, "grouped": {1: 90.0, 64: 190.0, 1024: 300.0}}
    assert "try more" in list(sections(made_up(late)))[-1]


def test_without_our_op_there_are_no_ratios_and_no_entry():
    titles = [text.splitlines()[0] for text in sections(made_up({"host": TIMES["host"]}))]
    assert not [title for title in titles if title.startswith(("times the time", "entry"))]


def test_the_json_line_is_strict_and_has_what_was_measured():
    found = made_up()
    line = Record(
        bench="moe", settings=found.settings, environment=found.environment, results=summary(found)
    ).json_line()
    results = json.loads(line)["results"]
    assert results["us"]["host"] == {"1": 40.0, "64": 400.0, "1024": 600.0}
    assert results["us"]["humming-w4a8"] == {} and results["problems"]["humming-w4a8"] == MISSING
    assert results["floor_us"]["64"] == 125.0 and results["copy_tb_s"] == 4.3


def test_a_file_gives_back_the_run(tmp_path):
    found = made_up()
    found.write(tmp_path / "moe.json")
    again = MoeResult.read(tmp_path / "moe.json")
    assert (again.environment, again.points, again.rows) == (found.environment, found.points, found.rows)
    assert list(sections(again)) == list(sections(found))


def test_the_picture_is_a_png_and_changes_with_a_time():
    pytest.importorskip("matplotlib")
    png = picture(made_up())
    assert png.startswith(b"\x89PNG") and png == picture(made_up())
    assert png != picture(made_up({**TIMES, "host": {1: 41.0, 64: 400.0, 1024: 600.0}}))

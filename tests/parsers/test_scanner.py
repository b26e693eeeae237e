"""The scanner by itself: it loses no character, waits no longer than it must, and takes linear time."""

from __future__ import annotations

import pytest
from parsers.tool_cases import TOOL_CASES

from sglang_glm52.parsers.scanner import Event, Kind, Scanner
from sglang_glm52.parsers.tags import MAX_NAME, MAX_SPACES

TEXTS = [case.text for case in TOOL_CASES]


def scan(scanner: Scanner, pieces: list[str]) -> list[Event]:
    return [*(event for piece in pieces for event in scanner.feed(piece)), *scanner.finish()]


def joined(events: list[Event]) -> list[tuple[Kind, str, bool]]:
    """Neighbouring pieces of one kind as one."""
    result: list[tuple[Kind, str, bool]] = []
    for event in events:
        if result and result[-1][0] is event.kind and event.kind in (Kind.TEXT, Kind.REASONING, Kind.VALUE):
            result[-1] = (event.kind, result[-1][1] + event.text, event.is_cut)
        elif event.kind is not Kind.LAYOUT:
            result.append((event.kind, event.text, event.is_cut))
    return result


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [Scanner.of_calls, lambda: Scanner.of_reasoning(True)], ids=["calls", "reasoning"])
def test_no_character_is_lost_and_cuts_change_nothing(make, text: str):
    whole = scan(make(), [text])
    assert "".join(event.raw for event in whole) == text
    for at in range(len(text) + 1):
        pieces = scan(make(), [text[:at], text[at:]])
        assert joined(pieces) == joined(whole)
        assert "".join(event.raw for event in pieces) == text


def test_the_events_of_a_call():
    text = "<tool_call>f\n<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>"
    assert joined(scan(Scanner.of_calls(), [text])) == [
        (Kind.CALL, "f", False),
        (Kind.KEY, "a", False),
        (Kind.VALUE, "1", False),
        (Kind.END_VALUE, "", False),
        (Kind.END_CALL, "", False),
    ]


@pytest.mark.parametrize(
    "text",
    ["<", "<tool_call>", "<tool_call>\n name", "<tool_call>" + " " * MAX_SPACES + "x" * MAX_NAME + " " * MAX_SPACES],
)
def test_it_waits_where_a_call_may_begin(text: str):
    assert Scanner.of_calls().feed(text) == []


@pytest.mark.parametrize(
    "text",
    ["<x", "<tool_call> <", "<tool_call>two words", "<tool_call>`", "<tool_call>" + "x" * (MAX_NAME + 1)],
)
def test_it_does_not_wait_where_none_can(text: str):
    events = Scanner.of_calls().feed(text + ".")
    assert "".join(event.text for event in events).startswith(text[:-1])


def test_what_follows_decides_where_a_value_ends():
    opening = "<tool_call>f<arg_key>a</arg_key><arg_value>"
    for following, value in (
        (" <arg_key>", "x"),
        ("\n</tool_call>", "x"),
        ("", "x"),
        ("</tool", "x"),
        (".", "x</arg_value>."),
    ):
        events = scan(Scanner.of_calls(), [opening + "x</arg_value>" + following])
        assert "".join(event.text for event in events if event.kind is Kind.VALUE) == value


@pytest.mark.parametrize(
    "unit", ["<", " ", "<tool_call>", "</arg_value>", "</arg_value> ", "<arg_key>", "</think>", "\n<"]
)
@pytest.mark.parametrize("before", ["", "<tool_call>f<arg_key>a</arg_key><arg_value>", "<tool_call>f<arg_key>"])
def test_it_keeps_little_back_however_hostile_the_output(unit: str, before: str):
    """What it keeps bounds the work for each character, and so makes the whole linear."""
    scanner = Scanner.of_calls()
    scanner.feed(before)
    for char in unit * 300:
        scanner.feed(char)
        assert len(scanner._buffer) - scanner._at <= MAX_NAME + 2 * MAX_SPACES + 32

"""Every tool call case, whole and streamed in every way, and that the host's own parser fails where it is said to."""

from __future__ import annotations

import pytest
from parsers.comparison import tool_failures
from parsers.feeding import TAGS_WHOLE, Result, parse_stream, parse_whole, ways
from parsers.tool_cases import TOOL_CASES, TOOLS, TWO, ToolCase, call
from sglang.srt.environ import envs

from sglang_glm52.parsers.tool_call_glm47 import Glm47Detector

CASES = pytest.mark.parametrize("case", TOOL_CASES, ids=str)


@CASES
def test_a_client_gets_what_the_case_says_in_every_way(case: ToolCase):
    assert tool_failures("ours", case) == []
    assert parse_whole(Glm47Detector, case.text, TOOLS).content == case.content  # to the last space


@CASES
def test_a_stream_equals_the_whole(case: ToolCase):
    whole = parse_whole(Glm47Detector, case.text, TOOLS)
    for way, pieces in ways(case.text, num_random=20).items():
        assert parse_stream(Glm47Detector, pieces, TOOLS) == whole, way


@CASES
def test_the_host_fails_where_it_is_said_to_and_only_there(case: ToolCase):
    assert bool(TAGS_WHOLE & set(tool_failures("host", case))) == case.host_fails


@CASES
def test_arguments_become_valid_even_if_nobody_calls_finish(case: ToolCase):
    """The server's own look at the end of a stream then closes them, as long as no value is spelt unlike json's own."""
    for way, pieces in ways(case.text).items():
        result = parse_stream(Glm47Detector, pieces, TOOLS, finishes=False)
        assert all(isinstance(arguments, dict) for _, arguments in result.calls), way


def test_the_server_finds_nothing_to_add_after_finish():
    text = call("search", query="a", ratio="1.10")[:-5]
    result = parse_stream(Glm47Detector, list(text), TOOLS)
    assert result.raw == ('{"query": "a", "ratio": 1.10}',)


def test_a_name_goes_out_once_whole_and_before_its_arguments():
    detector = Glm47Detector()
    items = [item for char in TWO for item in detector.parse_streaming_increment(char, TOOLS).calls]
    assert [(item.tool_index, item.name) for item in items if item.name] == [(0, "search"), (1, "search")]
    assert items[0].name and items[0].parameters == ""
    assert [item.tool_index for item in items] == sorted(item.tool_index for item in items)


def test_a_long_string_streams_as_it_comes():
    detector = Glm47Detector()
    detector.parse_streaming_increment("<tool_call>search<arg_key>query</arg_key><arg_value>", TOOLS)
    sent = [detector.parse_streaming_increment(f"{i:03d}", TOOLS).calls[0].parameters for i in range(200)]
    assert sent == ['{"query": "000', *(f"{i:03d}" for i in range(1, 200))]


def test_bookkeeping_follows_the_calls():
    detector = Glm47Detector()
    assert (detector.current_tool_id, detector.prev_tool_call_arr, detector.streamed_args_for_tool) == (-1, [], [])
    detector.parse_streaming_increment("<tool_call>search<arg_key>query</arg_key><arg_value>a", TOOLS)
    assert (detector.current_tool_id, detector.current_tool_name_sent) == (0, True)
    assert detector.prev_tool_call_arr == [{"name": "search", "arguments": {"query": "a"}}]
    assert detector.streamed_args_for_tool == ['{"query": "a']
    detector.finish(TOOLS)
    assert detector.streamed_args_for_tool == ['{"query": "a"}'] and not detector.current_tool_name_sent


def test_finish_again_adds_nothing():
    detector = Glm47Detector()
    detector.parse_streaming_increment(call("now") + " a <", TOOLS)
    assert detector.finish(TOOLS).normal_text == " <"
    again = detector.finish(TOOLS)
    assert (again.normal_text, again.calls) == ("", [])


@pytest.mark.parametrize("forwards", [False, True])
@pytest.mark.parametrize("is_first", [False, True])
def test_an_unknown_tool_is_forwarded_on_request_alike_in_both_modes(is_first: bool, forwards: bool):
    unknown = call("other", x="1")
    text = unknown + call("now") if is_first else call("now") + unknown
    calls = [("now", {})]
    if forwards:
        calls.insert(0 if is_first else 1, ("other", {"x": 1}))
    expected = ("" if forwards else unknown, tuple(calls))
    with envs.SGLANG_FORWARD_UNKNOWN_TOOLS.override(forwards):
        results = [parse_whole(Glm47Detector, text, TOOLS)]
        results += [parse_stream(Glm47Detector, pieces, TOOLS) for pieces in ways(text).values()]
    assert [(result.content, result.calls) for result in results] == [expected] * len(results)


def test_a_call_quoted_by_an_unknown_tool_is_not_made():
    text = call("other", body="<tool_call>now<arg_key>") + "."
    assert parse_whole(Glm47Detector, text, TOOLS) == Result(text, ())


@pytest.mark.parametrize(
    ("text", "has"), [("a", False), ("<tool_call>", False), ("<tool_call>now", False), (TWO, True)]
)
def test_the_mere_tag_is_no_call(text: str, has: bool):
    assert Glm47Detector().has_tool_call(text) is has

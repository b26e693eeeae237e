"""Every reasoning case, whole and streamed in every way, and that the host's own parser fails where it is said to."""

from __future__ import annotations

import inspect

import pytest
from parsers.comparison import reasoning_failures
from parsers.feeding import TAGS_WHOLE, parse_whole, reason_stream, reason_whole, ways
from parsers.reasoning_cases import CALL, REASONING_CASES, ReasoningCase
from parsers.tool_cases import TOOLS, call
from sglang.srt.parser.reasoning_parser import BaseReasoningFormatDetector
from sglang.srt.parser.reasoning_parser import Glm45Detector as HostGlm45Detector

from sglang_glm52.parsers.reasoning_glm45 import Glm45Detector
from sglang_glm52.parsers.tool_call_glm47 import Glm47Detector

CASES = pytest.mark.parametrize("case", REASONING_CASES, ids=str)


@CASES
def test_a_client_gets_what_the_case_says_in_every_way(case: ReasoningCase):
    assert reasoning_failures("ours", case) == []


@CASES
def test_the_host_fails_where_it_is_said_to_and_only_there(case: ReasoningCase):
    assert bool(TAGS_WHOLE & set(reasoning_failures("host", case))) == case.host_fails


def test_reasoning_goes_out_as_it_comes_or_when_it_has_ended():
    pieces = ["a", "b", "</think>", "c", "d"]
    streamed, held = Glm45Detector(True, True), Glm45Detector(False, True)
    assert [streamed.parse_streaming_increment(piece).reasoning_text for piece in pieces] == ["a", "b", "", "", ""]
    assert [held.parse_streaming_increment(piece).reasoning_text for piece in pieces] == ["", "", "", "ab", ""]
    assert held.finish().reasoning_text == ""


def test_a_call_in_the_reasoning_reaches_the_client_through_both_parsers():
    text = f"think{call('search', query='a')}</think>done"
    reasoning, content = reason_whole(Glm45Detector, text, {"force_reasoning": True})
    result = parse_whole(Glm47Detector, content, TOOLS)
    assert (reasoning, result.content, result.calls) == ("think", "done", (("search", {"query": "a"}),))


def test_parsing_a_whole_output_twice_gives_the_same():
    detector = Glm45Detector(force_reasoning=True)
    first, again = detector.detect_and_parse("a</think>b"), detector.detect_and_parse("a</think>b")
    assert vars(first) == vars(again) == {"reasoning_text": "a", "normal_text": "b"}


def test_a_copy_of_the_reasoning_is_no_answer_beside_a_call():
    arguments = {"force_reasoning": True, "force_nonempty_content": True}
    assert reason_whole(Glm45Detector, f"a{CALL}b", arguments) == ("ab", CALL)
    for pieces in ways(f"a{CALL}b").values():
        assert reason_stream(Glm45Detector, pieces, arguments) == ("ab", CALL)


def test_it_describes_itself_to_the_server_as_the_hosts_does():
    ours, hosts = vars(Glm45Detector()), vars(HostGlm45Detector())
    assert {name: ours[name] for name in hosts} == hosts


def test_it_takes_every_argument_the_server_passes():
    accepted = set(inspect.signature(Glm45Detector).parameters)
    passed = {"stream_reasoning", "force_reasoning", "continue_final_message", "previous_content"}
    assert passed | {"force_nonempty_content"} == accepted and issubclass(Glm45Detector, BaseReasoningFormatDetector)

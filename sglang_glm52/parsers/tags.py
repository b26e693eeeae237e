"""The tags of GLM-5.2's output, and how far one must look ahead to tell a tag from text that merely spells it.

Each lookahead is told a text and where a `<` stands in it, and answers with an index, NO or WAIT. It looks at a bounded
number of characters, so a scanner that waits holds back no more than that.
"""

from __future__ import annotations

import re

THINK, END_THINK = "<think>", "</think>"
CALL, END_CALL = "<tool_call>", "</tool_call>"
KEY, END_KEY = "<arg_key>", "</arg_key>"
VALUE, END_VALUE = "<arg_value>", "</arg_value>"

NO, WAIT = -1, -2  # it is no such tag; more text decides
MAX_SPACES = 256  # between two tags, or around a name; more of them are text
MAX_NAME = 256
SPACES = " \t\r\n"
# No tool name holds these characters, and prose that quotes the tag goes on with one of them.
_NAME = rf"[^\s<>{{}}\"'`]{{0,{MAX_NAME}}}"
_HEAD = re.compile(rf"{CALL}[{SPACES}]{{0,{MAX_SPACES}}}({_NAME})[{SPACES}]{{0,{MAX_SPACES}}}")
_SPACES = re.compile(rf"[{SPACES}]{{0,{MAX_SPACES}}}")


def tag_at(text: str, at: int, *tags: str) -> int:
    """The end of whichever tag stands at `at`; WAIT if the text ends within one."""
    for tag in tags:
        if text.startswith(tag, at):
            return at + len(tag)
    rest = text[at:] if len(text) - at < len(END_VALUE) else ""
    return WAIT if rest and any(tag.startswith(rest) for tag in tags) else NO


def call_at(text: str, at: int) -> int:
    """The end of `<tool_call>`, a name and spaces: where `<arg_key>` or `</tool_call>` stands, which make it a call."""
    head = _HEAD.match(text, at)
    if head is None:
        return tag_at(text, at, CALL)
    if head.end() == len(text):
        return WAIT
    follows = tag_at(text, head.end(), KEY, END_CALL) if head[1] else NO
    return head.end() if follows > 0 else follows


def call_name(text: str, at: int, end: int) -> str:
    """The name in what `call_at` found."""
    return text[at + len(CALL) : end].strip(SPACES)


def end_value_at(text: str, at: int, is_final: bool, *more: str) -> int:
    """The end of an `</arg_value>` that ends the value: one that the call goes on after, or that ends, or `more`.

    Anything else after it makes it a part of the value, which is how a value that quotes the tag is read. With
    `is_final`, the text is all there is: it may also end after the tag, even within the next one.
    """
    end = tag_at(text, at, END_VALUE)
    if end < 0:
        return end
    spaces = _SPACES.match(text, end).end()
    follows = WAIT if spaces == len(text) else tag_at(text, spaces, KEY, END_CALL, CALL, *more)
    return end if follows > 0 or (follows == WAIT and is_final) else follows

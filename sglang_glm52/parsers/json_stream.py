"""Writes a call's arguments as one JSON object while they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang_glm52.parsers.json_values import MAX_SCALAR, is_string_so_far, quote, to_json
from sglang_glm52.parsers.schema_types import ArgumentType, argument_type


class ArgumentsWriter:
    """Every method returns the JSON that is certain by then; joined, and with `closing` at the end, it is an object.

    A string goes out as it comes. Other values wait until they are whole, as does a value that may yet turn out to be
    something else than a string. A key is written together with the beginning of its value.
    """

    def __init__(self, parameters: Mapping[str, Any] | None) -> None:
        self._parameters = parameters  # the tool's schema
        self._num_written = 0
        self._key: str | None = None  # whose value is awaited or arriving
        self._type = ArgumentType()
        self._held: list[str] = []  # pieces of a value of which nothing is written
        self._head = ""  # their first MAX_SCALAR + 1 characters
        self._in_string = False  # a string is being written

    def key(self, key: str) -> None:
        """A key follows; one before it that got no value is forgotten."""
        self._key, self._type = key, argument_type(self._parameters, key)
        self._held, self._head = [], ""

    def value(self, piece: str) -> str:
        if self._in_string:
            return quote(piece)[1:-1]
        self._held.append(piece)
        self._head += piece[: MAX_SCALAR + 1 - len(self._head)]
        if not is_string_so_far(self._head, self._type):
            return ""
        written = self._opening() + quote("".join(self._held))[:-1]
        self._held, self._in_string = [], True
        self._num_written += 1
        return written

    def end_value(self, is_cut: bool = False) -> str:
        """The value is whole, or `is_cut` and there will be no more of it."""
        written = self._value_end(is_cut)
        self._num_written += bool(written) and not self._in_string
        self._key, self._held, self._head, self._in_string = None, [], "", False
        return written

    def closing(self) -> str:
        """What makes an object of all that was written, were the output to end here. Changes nothing."""
        end = self._value_end(is_cut=True)
        return end + ("}" if self._num_written or end else "{}")

    def _opening(self) -> str:
        return f"{', ' if self._num_written else '{'}{quote(self._key)}: "

    def _value_end(self, is_cut: bool) -> str:
        if self._in_string:
            return '"'
        text = "".join(self._held)
        if self._key is None or (not text and (is_cut or not self._key)):  # nothing of it came, or an empty pair
            return ""
        return self._opening() + to_json(text, self._type, is_cut)

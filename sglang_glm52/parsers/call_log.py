"""From scanner events to what an OpenAI client sees: text, and calls whose arguments arrive piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sglang_glm52.parsers.json_stream import ArgumentsWriter
from sglang_glm52.parsers.scanner import Event, Kind
from sglang_glm52.parsers.tags import SPACES

# The tool's schema for a name; KeyError if there is no such tool and it must not be called.
Parameters = Callable[[str], Mapping[str, Any] | None]


@dataclass(slots=True)
class Call:
    name: str
    writer: ArgumentsWriter
    pieces: list[str] = field(default_factory=list)  # of the arguments' JSON
    is_open: bool = True

    @property
    def streamed(self) -> str:
        return "".join(self.pieces)

    def arguments(self) -> dict[str, Any]:
        """Parsed; of an open call as they would be were the output to end here."""
        return json.loads(self.streamed + (self.writer.closing() if self.is_open else ""))


@dataclass(slots=True)
class Delta:
    """What some events add. `calls` holds (index, name or None, JSON), the name before any JSON of its call."""

    text: str = ""
    calls: list[tuple[int, str | None, str]] = field(default_factory=list)


class CallLog:
    """Keeps the calls of one output.

    A call of an unknown tool stays text, all of it. Spaces and line breaks next to a call, or to a tag in it, are
    layout: those before it, and those after it unless text follows, are left out.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._is_unknown = False  # within a call that stays text
        self._spaces: list[str] = []  # of which it is not yet known whether they are layout
        self._follows_call = False  # no text since

    @property
    def open_call(self) -> Call | None:
        return self.calls[-1] if self.calls and self.calls[-1].is_open else None

    def add(self, events: Iterable[Event], parameters: Parameters) -> Delta:
        texts: list[str] = []
        calls: list[tuple[int, str | None, list[str]]] = []
        for event in events:
            if event.kind is Kind.CALL and self._open(event, parameters):
                calls.append((len(self.calls) - 1, event.text, []))
            elif event.kind in (Kind.TEXT, Kind.CALL) or self._is_unknown:
                self._add_text(event.raw, texts)
                self._is_unknown = self._is_unknown and event.kind is not Kind.END_CALL
            elif piece := self._arguments(event):
                self.calls[-1].pieces.append(piece)
                if not calls or calls[-1][1] is not None:  # a name goes out alone
                    calls.append((len(self.calls) - 1, None, []))
                calls[-1][2].append(piece)
        return Delta("".join(texts), [(index, name, "".join(json)) for index, name, json in calls])

    def end(self) -> str:
        """Spaces that were held back and are none of a call's layout."""
        spaces = "" if self._follows_call else "".join(self._spaces)
        self._spaces = []
        return spaces

    def _open(self, event: Event, parameters: Parameters) -> bool:
        try:
            schema = parameters(event.text)
        except KeyError:
            self._is_unknown = True
            return False
        self.calls.append(Call(event.text, ArgumentsWriter(schema)))
        self._spaces, self._follows_call = [], True
        return True

    def _arguments(self, event: Event) -> str:
        writer = self.calls[-1].writer
        self._spaces = []
        if event.kind is Kind.VALUE:
            return writer.value(event.text)
        if event.kind is Kind.KEY:
            writer.key(event.text)
        elif event.kind is Kind.END_VALUE:
            return writer.end_value(event.is_cut)
        elif event.kind is Kind.END_CALL:
            self.calls[-1].is_open = False
            self._follows_call = True
            return writer.closing()
        return ""

    def _add_text(self, text: str, texts: list[str]) -> None:
        body = text.rstrip(SPACES)
        if body:
            texts.extend((*self._spaces, body))
            self._spaces, self._follows_call = [], False
        if len(body) < len(text):
            self._spaces.append(text[len(body) :])

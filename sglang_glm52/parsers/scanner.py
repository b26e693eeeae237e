"""Splits GLM-5.2's output into text, reasoning, tool calls, keys and values, as it arrives and in linear time.

Whatever the cuts, the events tell the same: pieces of TEXT, REASONING and VALUE may be cut differently, joined they are
equal. The `raw` of all events, joined, is the input.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from sglang_glm52.parsers import tags
from sglang_glm52.parsers.tags import NO, WAIT


class Kind(Enum):
    TEXT = auto()  # a piece, for the user
    REASONING = auto()  # a piece
    CALL = auto()  # text: the name. END_CALL ends it; TEXT in between is spaces, or out of place
    KEY = auto()  # text: the whole key, stripped
    VALUE = auto()  # a piece of the value of the last key
    END_VALUE = auto()
    END_CALL = auto()  # raw is empty where the output left the tag out
    LAYOUT = auto()  # tags that mean nothing by themselves, and what goes with them


class Event(NamedTuple):
    kind: Kind
    text: str
    raw: str  # the characters of the input that it stands for
    is_cut: bool = False  # END_VALUE, END_CALL: the input ended before


class _State(Enum):
    START = auto()  # nothing but spaces so far; here a think tag may stand
    REASONING = auto()
    TEXT = auto()
    REST = auto()  # after reasoning: all is text, tool calls included
    BETWEEN = auto()  # in a call, outside of keys and values
    KEY = auto()
    VALUE = auto()


class Scanner:
    """Reads one output: `feed` each piece of it, then `finish`. Both return the events that are certain by then."""

    def __init__(self, state: _State, is_reasoning: bool = False) -> None:
        self._state = state
        self._outside = _State.REASONING if state is _State.START else _State.TEXT  # where a call returns to
        self._starts_in_reasoning = is_reasoning
        self._buffer, self._at = "", 0
        self._key: list[str] | None = None  # pieces of the key in state KEY, after it what came, until the value
        self._events: list[Event] = []

    @classmethod
    def of_calls(cls) -> Scanner:
        """For an output without reasoning: TEXT and calls."""
        return cls(_State.TEXT)

    @classmethod
    def of_reasoning(cls, is_reasoning: bool) -> Scanner:
        """For an output that begins in reasoning, or may open it with `<think>`; calls after it are TEXT."""
        return cls(_State.START, is_reasoning)

    def feed(self, text: str) -> list[Event]:
        return self._scan(text, is_final=False)

    def finish(self) -> list[Event]:
        """What was held back, and the ends of a value and a call that the output does not have."""
        events = self._scan("", is_final=True)
        if self._state is _State.KEY:  # a cut key names nothing
            events.append(Event(Kind.LAYOUT, "", "".join(self._key)))
            self._state = _State.BETWEEN
        if self._state is _State.VALUE:
            events.append(Event(Kind.END_VALUE, "", "", is_cut=True))
            self._state = _State.BETWEEN
        if self._state is _State.BETWEEN:
            events.append(Event(Kind.END_CALL, "", "", is_cut=True))
            self._state = self._outside
        return events

    def _scan(self, text: str, is_final: bool) -> list[Event]:
        self._buffer, self._at = self._buffer[self._at :] + text, 0
        self._events = events = []
        steps = _STEPS
        while self._at < len(self._buffer) and steps[self._state](self, is_final):
            pass
        return events

    def _emit(self, kind: Kind, end: int, text: str | None = None) -> bool:
        """An event for the input up to `end`; its text is the same unless given."""
        raw = self._buffer[self._at : end]
        self._events.append(Event(kind, raw if text is None else text, raw))
        self._at = end
        return True

    def _plain(self, kind: Kind) -> bool:
        """An event for the input up to the next `<`, if one does not stand here already."""
        end = self._buffer.find("<", self._at)
        if end == self._at:
            return False
        return self._emit(kind, len(self._buffer) if end < 0 else end)

    def _literal(self, kind: Kind) -> bool:
        """The `<` that stands here is no tag."""
        end = self._buffer.find("<", self._at + 1)
        return self._emit(kind, len(self._buffer) if end < 0 else end)

    def _go(self, state: _State) -> bool:
        self._state = state
        return True

    def _start(self, is_final: bool) -> bool:
        spaces = _skip_spaces(self._buffer, self._at)
        few = spaces - self._at <= tags.MAX_SPACES
        at_end = spaces == len(self._buffer)
        end = (WAIT if at_end else tags.tag_at(self._buffer, spaces, tags.THINK, tags.END_THINK)) if few else NO
        if end == WAIT and not is_final:
            return False
        reasons = _State.REASONING if self._starts_in_reasoning else _State.REST
        if end < 0:
            return self._go(reasons)
        opens = self._buffer.startswith(tags.THINK, spaces)
        if not opens and self._starts_in_reasoning:
            return self._go(reasons)  # an empty reasoning, and the spaces are its own
        self._emit(Kind.LAYOUT, end, "")
        self._starts_in_reasoning = opens
        return self._go(_State.START if opens else _State.REST)

    def _reasoning(self, is_final: bool) -> bool:
        if self._plain(Kind.REASONING):
            return True
        end = tags.tag_at(self._buffer, self._at, tags.END_THINK)
        if end > 0:
            return self._emit(Kind.LAYOUT, end, "") and self._go(_State.REST)
        return self._open_call(Kind.REASONING, end, is_final)

    def _text(self, is_final: bool) -> bool:
        return self._plain(Kind.TEXT) or self._open_call(Kind.TEXT, NO, is_final)

    def _rest(self, is_final: bool) -> bool:
        return self._emit(Kind.TEXT, len(self._buffer))

    def _open_call(self, literal: Kind, other: int, is_final: bool) -> bool:
        """A call begins here, or a piece of `literal`; `other` is what another lookahead said."""
        end = tags.call_at(self._buffer, self._at)
        if end > 0:
            self._emit(Kind.CALL, end, tags.call_name(self._buffer, self._at, end))
            self._key = None
            return self._go(_State.BETWEEN)
        if WAIT in (end, other) and not is_final:
            return False
        return self._literal(literal)

    def _between(self, is_final: bool) -> bool:
        if self._plain(Kind.TEXT):
            return True
        if self._buffer.startswith(tags.END_CALL, self._at):
            return self._emit(Kind.END_CALL, self._at + len(tags.END_CALL), "") and self._go(self._outside)
        if self._buffer.startswith(tags.KEY, self._at):
            self._key = []
            return self._emit(Kind.LAYOUT, self._at + len(tags.KEY), "") and self._go(_State.KEY)
        if self._key is not None and self._buffer.startswith(tags.VALUE, self._at):
            self._key = None
            return self._emit(Kind.LAYOUT, self._at + len(tags.VALUE), "") and self._go(_State.VALUE)
        return self._unexpected(is_final)

    def _unexpected(self, is_final: bool) -> bool:
        """In a call, at a `<` that begins none of the call's own tags, or not yet."""
        call = tags.call_at(self._buffer, self._at)
        thought = tags.tag_at(self._buffer, self._at, *self._thought_ends())
        if call > 0 or thought > 0:  # the call was left open
            return self._emit(Kind.END_CALL, self._at, "") and self._go(self._outside)
        own = (tags.KEY, tags.VALUE, tags.END_CALL) if self._key is not None else (tags.KEY, tags.END_CALL)
        cut = tags.tag_at(self._buffer, self._at, *own) == WAIT
        if not is_final:
            return False if cut or WAIT in (call, thought) else self._literal(Kind.TEXT)
        return self._emit(Kind.LAYOUT, len(self._buffer), "") if cut else self._literal(Kind.TEXT)

    def _key_step(self, is_final: bool) -> bool:
        end = self._buffer.find("<", self._at)
        if end == self._at:
            closed = tags.tag_at(self._buffer, self._at, tags.END_KEY, tags.VALUE, tags.END_CALL)
            if closed == WAIT and not is_final:
                return False
            if closed > 0:
                return self._end_key(closed)
            end = self._buffer.find("<", self._at + 1)
        end = len(self._buffer) if end < 0 else end
        self._key.append(self._buffer[self._at : end])
        self._at = end
        return True

    def _end_key(self, closed: int) -> bool:
        """At `</arg_key>`, or at a tag that shows it was left out, which then still has to be read."""
        is_own = self._buffer.startswith(tags.END_KEY, self._at)
        key = "".join(self._key)
        raw = key + (tags.END_KEY if is_own else "")
        self._events.append(Event(Kind.KEY, key.strip(tags.SPACES), raw))
        self._at = closed if is_own else self._at
        return self._go(_State.BETWEEN)

    def _value(self, is_final: bool) -> bool:
        if self._plain(Kind.VALUE):
            return True
        end = tags.end_value_at(self._buffer, self._at, is_final, *self._thought_ends())
        if end > 0:
            return self._emit(Kind.END_VALUE, end, "") and self._go(_State.BETWEEN)
        return False if end == WAIT and not is_final else self._literal(Kind.VALUE)

    def _thought_ends(self) -> tuple[str, ...]:
        """Tags that end a call because they end the reasoning around it."""
        return (tags.END_THINK,) if self._outside is _State.REASONING else ()


def _skip_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at] in tags.SPACES:
        at += 1
    return at


_STEPS = {
    _State.START: Scanner._start,
    _State.REASONING: Scanner._reasoning,
    _State.TEXT: Scanner._text,
    _State.REST: Scanner._rest,
    _State.BETWEEN: Scanner._between,
    _State.KEY: Scanner._key_step,
    _State.VALUE: Scanner._value,
}

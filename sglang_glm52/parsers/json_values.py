"""One argument's text -> one JSON value. Never fails: what can be read in no other way becomes a JSON string."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from sglang_glm52.parsers.schema_types import ArgumentType, type_of

MAX_SCALAR = 64  # characters; a longer number or word, where strings are allowed, is a string
_WHITESPACE = " \t\r\n"
_NUMBER_SO_FAR = re.compile(r"-?[0-9][0-9.eE+-]*|-")
_PLAIN_NUMBER = re.compile(r"([+-]?)0*([0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MAX_DEPTH = 128
_MAX_LITERAL = 1 << 16  # characters of a Python literal: its syntax tree takes far more memory than JSON
_UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError, TypeError)  # of json and of ast


def is_string_so_far(head: str, wanted: ArgumentType) -> bool:
    """Whether a value that begins with `head` can only be a string; once true it stays true for more text.

    Args:
        head: the first characters, at least MAX_SCALAR + 1 of them if there are as many.
        wanted: the types it may have, as `argument_type` gives them.
    """
    if "string" not in wanted.types or wanted.is_string:
        return wanted.is_string and not wanted.may_be_listed(head)
    text = head.lstrip(_WHITESPACE)
    if text[:1] in ("{", "["):
        return ("object" if text[0] == "{" else "array") not in wanted.types
    if len(head) > MAX_SCALAR:
        return True
    return bool(text) and not _may_be_scalar(text.rstrip(_WHITESPACE), wanted)


def to_json(text: str, wanted: ArgumentType, is_cut: bool = False) -> str:
    """The JSON of a whole value.

    Args:
        text: as the model wrote it.
        wanted: the types it may have.
        is_cut: the output ended within it; open brackets and strings are then closed.

    Returns:
        JSON text as it stands if it is JSON of a wanted type, or any JSON where no string is wanted. Where strings are
        allowed, all else is a string, character by character. Where not, Python literals, numbers with leading zeros
        and raw line breaks in strings are put right first.
    """
    if wanted.is_string:
        return quote(wanted.listed(text))
    bare = text.strip(_WHITESPACE)
    if "string" in wanted.types:
        may_be_other = text not in wanted.strings and not is_string_so_far(text[: MAX_SCALAR + 1], wanted)
        return bare if may_be_other and _is_json_of(bare, wanted) else quote(text)
    if _is_json(bare):
        return bare
    for repaired in (_relaxed(bare), _number(bare, wanted), _word(bare, wanted), _literal(bare)):
        if repaired is not None:
            return repaired
    closed = close_json(bare) if is_cut else None
    return quote(text) if closed is None else closed


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def close_json(text: str) -> str | None:
    """An object or array that was cut off, with its open strings and brackets closed; None if that is not enough."""
    closers: list[str] = []
    in_string = is_escaped = False
    for char in text:
        if in_string:
            in_string = is_escaped or char != '"'
            is_escaped = char == "\\" and not is_escaped
        elif char == '"':
            in_string = True
        elif char in "{[":
            closers.append("}" if char == "{" else "]")
        elif char in "}]" and closers:
            closers.pop()
    ends = "".join(reversed(closers))
    body = (text[:-1] if is_escaped else text) + ('"' if in_string else "")
    shorter = body.rstrip(_WHITESPACE).removesuffix(",")
    for candidate in (body + ends, shorter + ends, f"{shorter} null{ends}"):
        if closers and _is_json(candidate):
            return candidate
    return None


def _may_be_scalar(text: str, wanted: ArgumentType) -> bool:
    """Whether a number or word among the wanted types could begin with `text`."""
    words = ("true", "false") if "boolean" in wanted.types else ()
    words += ("null",) if "null" in wanted.types else ()
    if any(word.startswith(text) for word in words):
        return True
    return bool(wanted.types & {"number", "integer"}) and _NUMBER_SO_FAR.fullmatch(text) is not None


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _loads(text: str, strict: bool = True) -> Any:
    if _depth(text) > _MAX_DEPTH:
        raise ValueError("nested deeper than a client's parser may follow")
    return json.loads(text, parse_constant=_reject_constant, strict=strict)


def _depth(text: str) -> int:
    """How deep brackets nest; those in strings do not count."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return 0
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _dumps(value: Any) -> str:
    """ValueError for what has no JSON, or none that UTF-8 can carry (half a surrogate pair)."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def _is_json(text: str) -> bool:
    try:
        _loads(text)
    except ValueError:
        return False
    return True


def _is_json_of(text: str, wanted: ArgumentType) -> bool:
    """JSON of a wanted type other than a string, which is written without quotes and so never has to be read."""
    try:
        value = _loads(text)
        return not isinstance(value, str) and wanted.allows(value)
    except ValueError:
        return False


def _relaxed(text: str) -> str | None:
    """JSON but for raw line breaks and tabs in its strings."""
    try:
        return _dumps(_loads(text, strict=False))
    except ValueError:
        return None


def _number(text: str, wanted: ArgumentType) -> str | None:
    """007, +5, .5 and 5. as JSON, digit by digit."""
    match = _PLAIN_NUMBER.fullmatch(text)
    if match is None or not wanted.types & {"number", "integer"} or not any(char.isdigit() for char in text):
        return None
    sign, whole, fraction, exponent = match.groups("")
    fraction = "" if fraction == "." else fraction
    repaired = f"{sign.replace('+', '')}{whole or '0'}{fraction}{exponent}"
    return repaired if _is_json(repaired) else None


def _word(text: str, wanted: ArgumentType) -> str | None:
    """true, false and null in any case, and None."""
    word = "null" if text == "None" else text.lower()
    if word in ("true", "false"):
        return word if "boolean" in wanted.types else None
    return word if word == "null" and "null" in wanted.types else None


def _literal(text: str) -> str | None:
    """A Python literal, tuples as arrays; sets, bytes and other things that JSON has not are left alone."""
    if not text or len(text) > _MAX_LITERAL or _depth(text) > _MAX_DEPTH:
        return None
    try:
        value = ast.literal_eval(text)
        if type_of(value) == "object" and not isinstance(value, (dict, tuple)):
            return None
        return _dumps(value)
    except _UNREADABLE:
        return None

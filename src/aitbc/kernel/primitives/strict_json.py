"""Strict JSON: check a body's syntax, duplicate keys, depth and integer range before it is decoded into a type.

The bytes are parsed once by the fast parser, which checks syntax and UTF-8. One walk over the result then counts
members and checks depth and integers. Two things cannot be seen in a parsed value: a duplicate key, and an escaped NUL.
Each member has exactly one colon outside of strings, so as many colons as members means that no member was overwritten;
only where strings hold colons too is a second, exact pass needed.
"""

import json
import re
from typing import Any

import msgspec

from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_errors import DuplicateKey, InvalidText, MalformedJson, OutOfRange, TooDeep

DEPTH_MAX = 32
INTEGER_MAX = 2**63 - 1
INTEGER_MIN = -(2**63)
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SCALARS = frozenset({float, str, bool, type(None)})
"""Types that contain nothing and need no check."""
_decode = msgspec.json.Decoder().decode


def check(body: bytes) -> None:
    """Raise `MalformedJson`, `InvalidText`, `OutOfRange`, `TooDeep` or `DuplicateKey` where it is not strict JSON."""
    try:
        value = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _parse_error(error, body) from None
    kind = type(value)
    members = _members(value, DEPTH_MAX) if kind is dict or kind is list else _whole_number(value)
    if b"\\u0" in body and _ESCAPED_NUL.search(body):
        raise InvalidText
    if body.count(b":") != members and _colons_outside_strings(body) != members:
        _refuse_duplicate_keys(body)


def _members(value: Any, depth_left: int) -> int:
    """The number of members of all objects in a value, with `depth_left` levels of nesting allowed."""
    if not depth_left:
        raise TooDeep
    members = 0
    if type(value) is dict:
        members = len(value)
        value = value.values()
    elif _SCALARS.issuperset(map(type, value)):  # fast path: a vector of numbers, a list of texts
        return 0
    for item in value:
        kind = type(item)
        if kind is str:
            continue
        if kind is int:
            if not INTEGER_MIN <= item <= INTEGER_MAX:
                raise OutOfRange
        elif kind is dict or kind is list:
            members += _members(item, depth_left - 1)
    return members


def _whole_number(value: Any) -> int:
    if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
        raise OutOfRange
    return 0


def _colons_outside_strings(body: bytes) -> int:
    """An upper bound of the colons outside of strings: each of those follows a quote or white space."""
    count = body.count
    colons = count(b'":') + count(b" :")
    for blank in (b"\n", b"\t", b"\r"):
        if blank in body:
            colons += count(blank + b":")
    return colons


def _refuse_duplicate_keys(body: bytes) -> None:
    json.loads(body, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise DuplicateKey


def _parse_error(error: Exception, body: bytes) -> AppError:
    if isinstance(error, RecursionError):
        return TooDeep()
    if isinstance(error, msgspec.ValidationError):  # decoded without a type, only a number out of range fails
        return OutOfRange()
    if _ESCAPED_SURROGATE.search(body) and _parses_loosely(body):
        return InvalidText()
    return MalformedJson()


def _parses_loosely(body: bytes) -> bool:
    """Whether a parser that allows lone surrogates accepts the text."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True

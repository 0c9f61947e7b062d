"""Checks of fields that come from outside: each answers the value with its type, or says what is wrong with it."""

from collections.abc import Mapping
from typing import Any


class FieldError(ValueError):
    """A field is missing, unknown, of the wrong type or out of its range."""


def read_object(value: Any, *, allowed: frozenset[str], what: str) -> Mapping[str, Any]:
    """The object itself, if all its fields are allowed."""
    if not isinstance(value, Mapping):
        raise FieldError(f"The {what} must be an object.")
    unknown = sorted(str(name)[:40] for name in value if name not in allowed)
    if unknown:
        raise FieldError(f"The {what} has an unknown field {unknown[0]!r}; known are {', '.join(sorted(allowed))}.")
    return value


def read_text(value: Any, name: str, *, longest: int, shortest: int = 0) -> str:
    """A string of Unicode characters that has a length (in characters) within the bounds and holds no NUL."""
    if not isinstance(value, str):
        raise FieldError(f"{name} must be a string.")
    if not shortest <= len(value) <= longest:
        raise FieldError(f"{name} must have {shortest} to {longest} characters; it has {len(value)}.")
    if "\0" in value:
        raise FieldError(f"{name} must not contain a NUL character.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FieldError(f"{name} must be valid Unicode; it contains half of a surrogate pair.") from None
    return value


def read_integer(value: Any, name: str, *, least: int, most: int) -> int:
    """An integer within the bounds; true and false are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldError(f"{name} must be an integer.")
    if not least <= value <= most:
        raise FieldError(f"{name} must be from {least} to {most}.")
    return value


def read_list(value: Any, name: str, *, fewest: int, most: int) -> list[Any]:
    """A list that has a number of items within the bounds."""
    if not isinstance(value, list):
        raise FieldError(f"{name} must be a list.")
    if not fewest <= len(value) <= most:
        raise FieldError(f"{name} must have {fewest} to {most} items; it has {len(value)}.")
    return value


def clean_text(text: str) -> str:
    """The text with what JSON strings of this platform may not hold (NUL, lone surrogates) replaced by U+FFFD."""
    return text.replace("\0", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")

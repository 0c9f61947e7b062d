"""One field of a free-form object, which legacy clients spell in several ways."""

from collections.abc import Mapping
from typing import Any


def first_value(found: Mapping[str, Any], *names: str) -> Any:
    """The first of these fields that is there and not empty, zero or false; none without one."""
    return next((found[name] for name in names if found.get(name)), None)


def first_text(found: Mapping[str, Any], *names: str) -> str | None:
    """The first of these fields that is a text and not empty; none without one."""
    return next((found[name] for name in names if isinstance(found.get(name), str) and found[name]), None)


def first_list(found: Mapping[str, Any], *names: str) -> list[Any]:
    """`first_value` as a list: a single value is a list of one, none is an empty list."""
    value = first_value(found, *names)
    return value if isinstance(value, list) else [] if value is None else [value]

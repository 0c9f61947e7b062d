"""Where a page of one of trading's lists begins: cursors hold what was sorted by, checked before a query sees it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, TypeVar

from msgspec import Meta

from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import InvalidCursor, Page, decode_cursor

T = TypeVar("T")
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


def number(name: str, cursor: str | None, *bound_to: str) -> int | None:
    """The number after which the page begins. Raises `InvalidCursor`."""
    return None if cursor is None else int(decode_cursor(name, cursor, Number, bound_to=bound_to)[0])


def moment_and_id(name: str, prefix: str, cursor: str | None) -> tuple[datetime, str] | None:
    """The time and the id after which the page begins. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    moment, found = decode_cursor(name, cursor, datetime, str)
    if moment.tzinfo is None or not ids.is_id(prefix, found):
        raise InvalidCursor
    return moment, found


def short_page(name: str, rows: Sequence[T], limit: int, cursor: str | None, key: Callable[[T], str]) -> Page[T]:
    """A page of a list that is short enough to be read whole. Raises `InvalidCursor`."""
    position = Page.position(name, cursor)
    start = 0
    if position is not None:
        start = next((place + 1 for place, row in enumerate(rows) if key(row) == position), len(rows))
    return Page.of(name, rows[start : start + limit + 1], limit, key)


def moment_and_name(name: str, cursor: str | None, *bound_to: str) -> tuple[datetime, str] | None:
    """The time and the id, of whatever form, after which the page begins. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    moment, found = decode_cursor(name, cursor, datetime, str, bound_to=bound_to)
    if moment.tzinfo is None or not found.isprintable():
        raise InvalidCursor
    return moment, found

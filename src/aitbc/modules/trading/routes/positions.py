"""Where a page of one of trading's lists begins: cursors hold what was sorted by, checked before a query sees it."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import InvalidCursor, Page, decode_cursor

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


def number(name: str, cursor: str | None) -> int | None:
    """The number after which the page begins. Raises `InvalidCursor`."""
    return None if cursor is None else int(decode_cursor(name, cursor, Number)[0])


def moment_and_id(name: str, prefix: str, cursor: str | None) -> tuple[datetime, str] | None:
    """The time and the id after which the page begins. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    moment, found = decode_cursor(name, cursor, datetime, str)
    if moment.tzinfo is None or not ids.is_id(prefix, found):
        raise InvalidCursor
    return moment, found


def identifier(name: str, prefix: str, cursor: str | None, *bound_to: str) -> str | None:
    """The id after which the page begins. Raises `InvalidCursor`."""
    position = Page.position(name, cursor, bound_to=bound_to)
    if position is not None and not ids.is_id(prefix, position):
        raise InvalidCursor
    return position


def moment_and_name(name: str, cursor: str | None, *bound_to: str) -> tuple[datetime, str] | None:
    """The time and the id, of whatever form, after which the page begins. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    moment, found = decode_cursor(name, cursor, datetime, str, bound_to=bound_to)
    if moment.tzinfo is None or not found.isprintable():
        raise InvalidCursor
    return moment, found

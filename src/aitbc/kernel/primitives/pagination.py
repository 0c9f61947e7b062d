"""Keyset pagination: a page of a list, and the opaque cursor of the next page.

A cursor holds the list's name, a format version and a position (the sort key of the last item seen), with a checksum
over all of it. It carries no signature because it grants nothing: it is a position in a list that the caller may read
anyway, and each value's type is checked before a query uses it. So no secret is shared between replicas or has to
survive a restart. The checksum catches a cursor that was truncated, edited or taken from another list.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from types import GenericAlias
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.crypto.signing import decode_bytes, encode_bytes
from aitbc.kernel.primitives.errors import FieldError, Invalid

VERSION = 1
CURSOR_LENGTH_MAX = 512
LIMIT_MAX = 1000

Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="How many items a page holds at most.")]
"""The `limit` of a list: `limit: FromQuery[Limit] = 50`."""
Cursor = Annotated[
    str | None,
    Meta(description="The `next_cursor` of the page before; leave it out to begin at the first page."),
]
"""The `cursor` of a list: `cursor: FromQuery[Cursor] = None`."""
Value = str | int | datetime | bool | None
"""The types of a position's values."""
Item = TypeVar("Item")
_CHECKSUM_BYTES = 6


class InvalidCursor(Invalid):
    """This cursor does not belong to this list; begin again at the first page."""

    code = "invalid_cursor"


def encode_cursor(name: str, *position: Value, bound_to: Sequence[str] = ()) -> str:
    """The cursor of a position in the list with this name; see `decode_cursor`."""
    body = msgspec.json.encode([VERSION, *position])
    cursor = encode_bytes(_checksum(name, body, bound_to) + body)
    if len(cursor) > CURSOR_LENGTH_MAX:
        raise ValueError(f"a position in {name} is too long for a cursor")
    return cursor


def decode_cursor(name: str, cursor: str, *kinds: Any, bound_to: Sequence[str] = ()) -> tuple[Any, ...]:
    """The position in a cursor, checked to be of these types, one each: `decode_cursor("jobs", cursor, datetime, str)`.

    `bound_to` names what else the cursor belongs to, such as the filters of the query; both sides give the same. Raises
    `InvalidCursor` for anything that was not made by `encode_cursor` for this list.
    """
    try:
        if len(cursor) > CURSOR_LENGTH_MAX:
            raise ValueError("too long")
        content = decode_bytes(cursor)
        checksum, body = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        if checksum != _checksum(name, body, bound_to):
            raise ValueError("not of this list")
        version, *position = msgspec.json.decode(body, type=_shape(kinds))
    except (ValueError, msgspec.MsgspecError):
        raise InvalidCursor(fields=(FieldError("?cursor", InvalidCursor.summary()),)) from None
    if version != VERSION:
        raise InvalidCursor(fields=(FieldError("?cursor", InvalidCursor.summary()),))
    return tuple(position)


def _shape(kinds: tuple[Any, ...]) -> Any:
    return GenericAlias(tuple, (int, *kinds))


def _checksum(name: str, body: bytes, bound_to: Sequence[str]) -> bytes:
    content = msgspec.json.encode([name, *bound_to]) + body
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES).digest()


class Page(Struct, Generic[Item], frozen=True, kw_only=True):
    """One page of a list. Ask again with `cursor` set to `next_cursor` while `has_more` is true."""

    data: list[Item]
    """The entries of this page."""
    next_cursor: str | None = None
    """What to send as `cursor` for the next page; null on the last one."""
    has_more: bool = False
    """Whether there is a next page."""

    @staticmethod
    def of(
        name: str,
        rows: Sequence[Item],
        limit: int,
        position: Callable[[Item], str | tuple[Value, ...]],
        *,
        bound_to: Sequence[str] = (),
    ) -> "Page[Item]":
        """The page of `limit` rows from a query for `limit + 1`: the extra row shows that there is another page."""
        kept = list(rows[:limit])
        if len(rows) <= limit:
            return Page(data=kept)
        last = position(kept[-1])
        values = last if isinstance(last, tuple) else (last,)
        return Page(data=kept, next_cursor=encode_cursor(name, *values, bound_to=bound_to), has_more=True)

    @staticmethod
    def position(name: str, cursor: str | None, *, bound_to: Sequence[str] = ()) -> str | None:
        """The position in a list that is sorted by one text column; none for its beginning. Raises `InvalidCursor`."""
        if cursor is None:
            return None
        (value,) = decode_cursor(name, cursor, str, bound_to=bound_to)
        assert isinstance(value, str)
        return value

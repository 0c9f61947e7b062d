"""Queries of the legacy dialect, and lists by limit and offset.

A handler that declares its parameters takes `Limit`, `Offset` and `Word`, and refuses parameters it does not know.
One that must pass over whatever else a client sends takes `QueryParams` and reads it with `read_query`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import FromQuery
from msgspec import Meta, Struct

from aitbc.kernel.legacy.errors import invalid

T = TypeVar("T")
Row = TypeVar("Row")
Query = TypeVar("Query", bound=Struct)

Limit = Annotated[int, Meta(ge=1, le=500)]
"""How many rows a page has at most."""
Offset = Annotated[int, Meta(ge=0, le=10_000)]
"""How many rows stand before the page."""
Word = FromQuery[Annotated[str | None, Meta(max_length=100)]]
"""An optional parameter that is one short text."""


class OffsetItems(Struct, Generic[T], frozen=True, kw_only=True):
    """A page that says where the next one begins."""

    items: tuple[T, ...]
    next_offset: int | None
    """None on the last page."""


class CountedItems(Struct, Generic[T], frozen=True, kw_only=True):
    """A page that repeats its limit and its offset."""

    items: tuple[T, ...]
    total: int
    """How many rows are on this page."""
    limit: int
    offset: int


def offset_items(rows: Sequence[Row], offset: int, limit: int, shape: Callable[[Row], T]) -> OffsetItems[T]:
    """The page of rows that were read from the first on, up to one more than `offset + limit`."""
    items = tuple(shape(row) for row in rows[offset : offset + limit])
    return OffsetItems(items=items, next_offset=offset + limit if len(rows) > offset + limit else None)


def read_query(query: Mapping[str, Any], kind: type[Query]) -> Query:
    """The parameters that `kind` has, as it; an empty value counts as absent, unknown ones are passed over.

    Raises `Invalid` at `?name` for the first that does not fit.
    """
    values = {name: query[name] for name in kind.__struct_fields__ if query.get(name) not in (None, "")}
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        raise invalid(f"?{place.rstrip('`')}", message) from None

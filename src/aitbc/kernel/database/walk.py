"""Walks over many rows by their key, a page at a time."""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute

from aitbc.kernel.database.unit_of_work import Database

PAGE = 200


async def keys_of(
    database: Database, key: InstrumentedAttribute[str], *where: ColumnElement[bool]
) -> AsyncIterator[Sequence[str]]:
    """The keys of the rows of a condition, from the lowest on, a page at a time; each page is a read of its own."""
    wanted = rest = select(key).where(*where).order_by(key).limit(PAGE)
    found: Sequence[str] = ()
    while not found or len(found) == PAGE:
        async with database.reading() as session:
            found = (await session.scalars(rest)).all()
        if not found:
            return
        yield found
        rest = wanted.where(key > found[-1])

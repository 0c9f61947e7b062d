"""The search over open offers: filtered, sorted by any of its sorts, in keyset pages."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Select, literal_column, select, tuple_

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.api import MarketOffer
from aitbc.modules.marketplace.models.search.conditions import condition
from aitbc.modules.marketplace.models.search.grammar import fields_of, parse
from aitbc.modules.marketplace.models.tables import HOUR, OfferRow
from aitbc.modules.marketplace.models.views import hour_units, offer_view

HOUR_PRICE: Any = literal_column(HOUR, BigInteger())
SORTS: Mapping[str, Any] = {
    "price": OfferRow.price_units,
    "hour": HOUR_PRICE,
    "vram": OfferRow.vram_mib,
    "created": None,
}
"""What offers can be sorted by: what stands before the id, which stands for the time of their making by itself."""
READ: Mapping[str, Callable[[OfferRow], int]] = {
    "price": lambda row: row.price_units,
    "hour": lambda row: hour_units(row) or 0,
    "vram": lambda row: row.vram_mib,
    "created": lambda row: 0,
}
"""The same of a row that was read."""


class Search(Struct, frozen=True, kw_only=True):
    """What is looked for."""

    expression: str
    sort: str = "price"
    """A name of `SORTS`, with `-` before it from the highest on."""
    after: tuple[int, str] | None = None
    """The sorted number and the id after which the page begins."""
    limit: int = 50


class FoundOffer(Struct, frozen=True):
    """An offer, and what it was sorted by."""

    offer: MarketOffer
    position: int


class OfferSearch:
    """Finds offers that can be taken now."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, search: Search) -> Sequence[FoundOffer]:
        """The offers of a page. Raises `SearchInvalid`."""
        read, at = READ[search.sort.removeprefix("-")], now()
        async with self._database.reading() as session:
            rows = (await session.scalars(page_query(search, at))).all()
        return [FoundOffer(offer_view(row, at), read(row)) for row in rows]


def page_query(search: Search, at: datetime) -> Select[OfferRow]:
    """The offers of a page, in its order. Raises `SearchInvalid`."""
    tree = parse(search.expression)
    wanted = select(OfferRow).where(
        OfferRow.state == "open", OfferRow.valid_until > at, OfferRow.taken < OfferRow.capacity, condition(tree)
    )
    if "status" not in fields_of(tree):
        wanted = wanted.where(OfferRow.status == "online")
    backwards, column = search.sort.startswith("-"), SORTS[search.sort.removeprefix("-")]
    key = [OfferRow.id] if column is None else [column, OfferRow.id]
    if column is HOUR_PRICE:
        wanted = wanted.where(HOUR_PRICE.is_not(None))
    if search.after is not None:
        last = search.after[-len(key) :]
        wanted = wanted.where(tuple_(*key) < last if backwards else tuple_(*key) > last)
    order = [part.desc() if backwards else part.asc() for part in key]
    return wanted.order_by(*order).limit(search.limit)

"""The HTTP of the search."""

from typing import Annotated, Literal

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from msgspec import Meta

from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor, encode_cursor
from aitbc.modules.marketplace.api import MarketOffer
from aitbc.modules.marketplace.models.search.values import SearchInvalid
from aitbc.modules.marketplace.service.search import OfferSearch, Search

Filter = Annotated[str, Meta(max_length=1000), QueryParameter(name="filter")]
Sort = Literal["price", "-price", "hour", "-hour", "vram", "-vram", "created", "-created"]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class MarketSearchController(Controller):
    """What can be taken now."""

    path = "/search"
    tags = ("market",)

    @get(
        "/",
        operation_id="search_market",
        summary="Search the market",
        opt={"permission": "market:read", "errors": (InvalidCursor, SearchInvalid)},
    )
    async def search(
        self,
        market_search: NamedDependency[OfferSearch],
        expression: Filter = "",
        sort: FromQuery[Sort] = "price",
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketOffer]:
        """Find everybody's offers that can be taken now, by `field op value` with and, or, not and parentheses.

        For example `vram >= 80GB and region in [eu, us]` or `gpu = H100:2.. price < 1`. Miners that are offline are
        left out unless the filter names `status`.
        """
        after = _after(cursor, sort, expression)
        found = await market_search.find(Search(expression=expression, sort=sort, after=after, limit=limit + 1))
        kept = found[:limit]
        if len(found) <= limit:
            return Page(data=[one.offer for one in kept])
        place = encode_cursor("market", kept[-1].position, kept[-1].offer.id, bound_to=(sort, expression))
        return Page(data=[one.offer for one in kept], next_cursor=place, has_more=True)


def _after(cursor: str | None, *bound_to: str) -> tuple[int, str] | None:
    if cursor is None:
        return None
    number, name = decode_cursor("market", cursor, Number, str, bound_to=bound_to)
    if not ids.is_id("offer", name):
        raise InvalidCursor
    return number, name

"""The HTTP of ratings."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.kernel.primitives.text import Text
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.marketplace.service.ratings import (
    MarketRating,
    OwnWorkRated,
    RatedReceiptNotFound,
    RatingGiven,
    Ratings,
)

RATINGS = "market_ratings"
SubjectId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^(rcpt|book)_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^(rcpt|book)_[0-9a-z]{26}$", "examples": ["rcpt_01k0000000000000000000000a"]}),
]


class RateMarketWork(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you say of work that you paid for."""

    subject: SubjectId
    """The receipt of a job, or a booking. For example `rcpt_01k0000000000000000000000a`."""
    stars: Annotated[int, Meta(ge=1, le=5)]
    """From 1, the least, to 5. For example `4`."""
    comment: Text = ""
    """What else there is to say. For example `Fast, and as described.`."""


class MarketRatingController(Controller):
    """What payers say of miners' work."""

    path = "/ratings"
    tags = ("market",)

    @post(
        "/",
        operation_id="rate_market_work",
        summary="Rate work that you paid for",
        opt={
            "permission": "market:write",
            "idempotency": "natural",
            "errors": (RatedReceiptNotFound, OwnWorkRated, RatingGiven, MinerNotFound),
        },
    )
    async def rate(
        self,
        market_ratings: NamedDependency[Ratings],
        who: NamedDependency[Principal],
        data: JSONBody[RateMarketWork],
    ) -> MarketRating:
        """Rate a job or a booking that the caller's account paid, once; one's own miners are not rated."""
        return await market_ratings.rate(who, data.subject, data.stars, data.comment)

    @get(
        "/",
        operation_id="list_market_ratings",
        summary="List ratings",
        opt={"permission": "market:read", "errors": (InvalidCursor,)},
    )
    async def ratings(
        self,
        market_ratings: NamedDependency[Ratings],
        miner: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketRating]:
        """List what payers say of everybody's miners, or of one, from the newest on."""
        bound = (miner or "",)
        found = await market_ratings.page(miner, _after(cursor, *bound), limit + 1)
        return Page.of(RATINGS, found, limit, lambda one: (one.rated_at, one.subject), bound_to=bound)


def _after(cursor: str | None, *bound_to: str) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    moment, subject = decode_cursor(RATINGS, cursor, datetime, str, bound_to=bound_to)
    if moment.tzinfo is None or not (ids.is_id("rcpt", subject) or ids.is_id("book", subject)):
        raise InvalidCursor
    return moment, subject

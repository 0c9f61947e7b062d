"""Trades under rush: twenty at once do a thing once, and a repeated command is answered as the first time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.trading.service.trades.commands import (
    PlaceTradeOffer,
    PlaceTradeRequest,
    TradeAgreementNotOpen,
    TradeFilter,
    TradeMatchNotOpen,
    TradeOfferNotOpen,
    TradePaymentNotOpen,
    TradeTerms,
)
from tests.modules.trading.make import AITBC
from tests.modules.trading.trades import Market, a_market

CALLERS = 20
NONE = IdempotencyKey.NONE


async def rush(works: Sequence[Awaitable[Any]]) -> Counter[str]:
    """How many were done, and how many were refused with what."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for one in outcomes:
        if isinstance(one, BaseException) and not isinstance(one, AppError):
            raise one
    return Counter(type(one).__name__ for one in outcomes)


def again(market: Market, name: str) -> IdempotencyKey:
    """The Idempotency-Key of one wish of somebody's: each use of it is a request of its own."""
    return IdempotencyKey(account=market.people[name].account, key="the same", fingerprint=b"y" * 32)


async def test_one_match_is_accepted_once_and_one_agreement_settled_once(empty: Target) -> None:
    async with a_market(empty) as market:
        trading, buyer = market.trading, market.people["buyer"]
        match = await market.match()
        terms = TradeTerms()
        taken = await rush([trading.trade_matches.accept(buyer, match["id"], terms, NONE) for _ in range(CALLERS)])
        assert taken == {"TradeAgreement": 1, TradeMatchNotOpen.__name__: CALLERS - 1}
        (agreement,) = await trading.trade_agreements.page(buyer, TradeFilter())
        begun = await rush([trading.trade_settlements.start(buyer, agreement.id, NONE) for _ in range(CALLERS)])
        assert begun == {"TradeSettlement": 1, TradeAgreementNotOpen.__name__: CALLERS - 1}
        assert await market.owned("buyer") == (90 * AITBC, 10 * AITBC)


async def test_an_offer_is_taken_no_more_often_than_it_is_there(empty: Target) -> None:
    async with a_market(empty) as market:
        trading, buyer = market.trading, market.people["buyer"]
        offer = PlaceTradeOffer(trade_type="ai_power", title="x", price_units=5, capacity=3)
        placed = await trading.trade_offers.place(market.people["seller"], offer, NONE)
        matches = []
        for _ in range(8):
            wish = PlaceTradeRequest(trade_type="ai_power", title="x")
            request = await trading.trade_requests.place(buyer, wish, NONE)
            (match,) = (await trading.trade_matches.find(buyer, request.id, NONE)).data
            matches.append(match.id)
        terms = TradeTerms()
        taken = await rush([trading.trade_matches.accept(buyer, match, terms, NONE) for match in matches])
        assert taken == {"TradeAgreement": 3, TradeOfferNotOpen.__name__: 5}
        assert (await trading.trade_offers.one(placed.id)).available == 0


async def test_an_escrow_is_released_or_refunded_once(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = (await market.settle({"settlement_type": "escrow"}))["id"]
        settlements = market.trading.trade_settlements
        buyer, seller = market.people["buyer"], market.people["seller"]
        works: list[Awaitable[Any]] = []
        for _ in range(CALLERS // 2):
            works += [
                settlements.confirm(buyer, settlement, 1, NONE),
                settlements.refund(seller, settlement, 1, NONE),
            ]
        outcomes = await rush(works)
        assert outcomes == {"TradeSettlement": CALLERS // 2, TradePaymentNotOpen.__name__: CALLERS // 2}
        assert await market.owned("buyer") in ((90 * AITBC, 0), (100 * AITBC, 0))


async def test_a_repeated_command_is_answered_as_the_first_time(empty: Target) -> None:
    async with a_market(empty) as market:
        trading, buyer = market.trading, market.people["buyer"]
        agreement = (await market.agree({"settlement_type": "immediate"}))["id"]
        first = await trading.trade_settlements.start(buyer, agreement, again(market, "buyer"))
        assert await trading.trade_settlements.start(buyer, agreement, again(market, "buyer")) == first
        assert first.state == "completed" and await market.owned("buyer") == (90 * AITBC, 0)

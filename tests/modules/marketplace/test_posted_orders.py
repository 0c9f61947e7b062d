"""The GPU market by its service: every state and every step from it, races, terms, who may do what, and repetition."""

import asyncio
import functools
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from aitbc.app import MODULES, parts
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.migrations import migrate
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.money import HOUR
from aitbc.modules.marketplace.models.engine import replayed
from aitbc.modules.marketplace.models.posted_order_views import PostedOrder
from aitbc.modules.marketplace.models.posted_orders import (
    COUNT_MAX,
    HOURS_MAX,
    OPEN,
    OrderState,
    Side,
    agrees,
    may_end,
    total,
)
from aitbc.modules.marketplace.service.posted_orders.commands import (
    AcceptBid,
    CancelOrder,
    MatchOrders,
    OrderFilter,
    OrderIdTaken,
    OrderNotFound,
    OrderNotOpen,
    OrdersDoNotFit,
    PlaceOrder,
    TooManyOrders,
    TotalDiffers,
)
from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import market_of
from tests.poison.test_no_keys_kept import downgrade
from tests.postgres import run_sql
from tests.scale import scaled

pytestmark = pytest.mark.anyio
PRICE = 5_000_000


def name() -> str:
    """An id that nobody used."""
    return f"order-{uuid.uuid4().hex[:12]}"


def order(side: Side, **changes: Any) -> PlaceOrder:
    """An order for two GPUs for a day and a half at 0.05."""
    fields: dict[str, Any] = {
        "id": name(),
        "side": side,
        "node": "gives" if side is Side.OFFER else "takes",
        "gpu_count": 2,
        "price_units": PRICE,
        "duration_ms": 36 * HOUR,
    }
    return PlaceOrder(**(fields | changes))


async def someone(fleet: Fleet) -> Principal:
    """An account of its own."""
    return (await fleet.owner()).principal


async def see(fleet: Fleet, who: Principal, **wish: Any) -> list[PostedOrder]:
    """What somebody sees in the book."""
    return list(await market_of(fleet).posted_orders.page(who, OrderFilter(**({"limit": 1000} | wish))))


async def state_of(fleet: Fleet, order: str) -> tuple[str, bool]:
    """An order as the database has it: its state, and whether it ended."""
    (row,) = await fleet.sql("SELECT state, ended_at FROM marketplace.posted_orders WHERE id = $1", order)
    return row["state"], row["ended_at"] is not None


async def outcomes(deeds: list[Awaitable[Any]]) -> list[Any]:
    """All of them at once: what each answered, or the class of the error."""
    found = await asyncio.gather(*deeds, return_exceptions=True)
    for one in found:
        assert not isinstance(one, BaseException) or isinstance(one, AppError), one
    return [type(one) if isinstance(one, BaseException) else one for one in found]


class Book:
    """A provider, a buyer, and an order of each that fit each other."""

    def __init__(self, fleet: Fleet, provider: Principal, buyer: Principal) -> None:
        self.fleet, self.provider, self.buyer = fleet, provider, buyer
        self.offer, self.bid = order(Side.OFFER, node="prov"), order(Side.BID, node="buy")

    async def open(self) -> "Book":
        """Place both."""
        await market_of(self.fleet).posted_orders.place(self.provider, self.offer)
        await market_of(self.fleet).posted_orders.place(self.buyer, self.bid)
        return self

    async def do(self, deed: str) -> Any:
        """One of the steps, each as the one who may take it; no step says when it was taken, so none is a repetition."""
        market, offer, bid = market_of(self.fleet), str(self.offer.id), str(self.bid.id)
        steps: dict[str, Callable[[], Awaitable[Any]]] = {
            "accept": lambda: market.posted_orders.accept(self.provider, AcceptBid(bid=bid, node="prov")),
            "match": lambda: market.posted_orders.match(self.provider, MatchOrders(offer=offer, bid=bid)),
            "cancel_offer": lambda: market.posted_orders.cancel(self.provider, CancelOrder(order=offer)),
            "cancel_bid": lambda: market.posted_orders.cancel(self.buyer, CancelOrder(order=bid)),
        }
        return await steps[deed]()


async def book_on(fleet: Fleet) -> Book:
    """A book with an offer and a bid that fit."""
    return await Book(fleet, await someone(fleet), await someone(fleet)).open()


AFTER = {
    "accept": ("active", "accepted"),
    "match": ("matched", "matched"),
    "cancel_offer": ("cancelled", "pending"),
    "cancel_bid": ("active", "cancelled"),
}
"""Where the offer and the bid are after a first step."""
SECOND = {
    ("accept", "cancel_offer"): ("cancelled", "accepted"),
    ("cancel_offer", "accept"): ("cancelled", "accepted"),
    ("cancel_offer", "cancel_bid"): ("cancelled", "cancelled"),
    ("cancel_bid", "cancel_offer"): ("cancelled", "cancelled"),
}
"""The only second steps that there are; all others are refused."""


@pytest.mark.parametrize("second", AFTER)
@pytest.mark.parametrize("first", AFTER)
async def test_an_order_ends_once_and_a_second_end_is_refused(fleet: Fleet, first: str, second: str) -> None:
    book = await book_on(fleet)
    await book.do(first)
    expected = SECOND.get((first, second))
    if expected is None:
        with pytest.raises(OrderNotOpen):
            await book.do(second)
        expected = AFTER[first]
    else:
        await book.do(second)
    found = [await state_of(fleet, str(one.id)) for one in (book.offer, book.bid)]
    assert found == [(state, state not in ("active", "pending")) for state in expected]


def test_the_ends_of_each_side_are_those_of_the_contract() -> None:
    ends = {side: {end for end in OrderState if may_end(side, OPEN[side], end)} for side in Side}
    assert ends == {
        Side.OFFER: {OrderState.MATCHED, OrderState.CANCELLED, OrderState.EXPIRED},
        Side.BID: {OrderState.ACCEPTED, OrderState.MATCHED, OrderState.CANCELLED, OrderState.EXPIRED},
    }
    assert not any(
        may_end(side, state, end) for side in Side for state in OrderState if state != OPEN[side] for end in OrderState
    )


async def test_of_twenty_providers_that_accept_a_bid_at_once_exactly_one_gets_it(fleet: Fleet) -> None:
    buyer = await someone(fleet)
    providers = [await someone(fleet) for _ in range(4)]
    bid = await market_of(fleet).posted_orders.place(buyer, order(Side.BID))
    found = await outcomes(
        [
            market_of(fleet).posted_orders.accept(providers[i % 4], AcceptBid(bid=bid.id, node=f"p-{i}", said_at="now"))
            for i in range(20)
        ]
    )
    (won,) = [one for one in found if isinstance(one, PostedOrder)]
    assert found.count(OrderNotOpen) == 19
    (seen,) = await see(fleet, buyer, id=bid.id)
    assert (seen.state, seen.partner_node) == ("accepted", won.partner_node)


async def test_of_twenty_bids_that_are_matched_with_one_offer_at_once_exactly_one_is(fleet: Fleet) -> None:
    provider, buyer = await someone(fleet), await someone(fleet)
    offer = await market_of(fleet).posted_orders.place(provider, order(Side.OFFER))
    bids = [(await market_of(fleet).posted_orders.place(buyer, order(Side.BID))).id for _ in range(20)]
    found = await outcomes(
        [market_of(fleet).posted_orders.match(buyer, MatchOrders(offer=offer.id, bid=bid)) for bid in bids]
    )
    assert found.count(OrderNotOpen) == 19
    states = [one.state for one in await see(fleet, buyer, side=Side.BID) if one.id in bids]
    assert sorted(states) == ["matched"] + ["pending"] * 19
    (sold,) = await fleet.sql(
        "SELECT count(*) AS matches, sum(gpu_count) AS gpus FROM marketplace.posted_matches WHERE offer = $1", offer.id
    )
    assert (sold["matches"], sold["gpus"]) == (1, offer.gpu_count)


async def test_matches_that_cross_do_not_wait_for_each_other_for_ever_and_each_order_is_matched_once(
    fleet: Fleet,
) -> None:
    who = await someone(fleet)
    offers = [(await market_of(fleet).posted_orders.place(who, order(Side.OFFER))).id for _ in range(4)]
    bids = [(await market_of(fleet).posted_orders.place(who, order(Side.BID))).id for _ in range(4)]
    pairs = [MatchOrders(offer=offer, bid=bid) for offer in offers for bid in bids]
    found = await outcomes([market_of(fleet).posted_orders.match(who, pair) for pair in pairs])
    matches = [one for one in found if not isinstance(one, type)]
    assert set(found) - set(matches) <= {OrderNotOpen}
    assert 1 <= len(matches) <= 4
    assert len({one.offer for one in matches}) == len({one.bid for one in matches}) == len(matches)


async def test_cancelling_races_with_accepting_and_matching_and_one_of_them_wins(fleet: Fleet) -> None:
    for _ in range(scaled(2, 5)):
        book = await book_on(fleet)
        found = await outcomes([book.do(deed) for deed in ("cancel_bid", "accept", "match")])
        assert found.count(OrderNotOpen) == 2


async def test_the_total_is_reckoned_here_and_one_that_disagrees_is_refused(fleet: Fleet) -> None:
    who = await someone(fleet)
    placed = await market_of(fleet).posted_orders.place(who, order(Side.OFFER, total_told=0.05 * 2 * 36))
    assert placed.total_units == PRICE * 2 * 36
    with pytest.raises(TotalDiffers):
        await market_of(fleet).posted_orders.place(who, order(Side.OFFER, total_told=3.61))


def test_a_total_is_exact_in_minor_units() -> None:
    assert total(5_000_000, 2, 36 * HOUR) == 360_000_000
    assert total(1, 1, HOUR // 2) == 1
    assert total(1, 1, HOUR // 2 - 1) == 0
    assert total(10**8, COUNT_MAX, HOURS_MAX * HOUR) == 10**8 * COUNT_MAX * HOURS_MAX
    assert agrees(0.1 * 3, 30_000_000)
    assert agrees(1e9 + 0.1, 100_000_000_010_000_000)
    assert not agrees(0.31, 30_000_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"price_units": PRICE - 1},
        {"gpu_count": 1},
        {"duration_ms": HOUR},
        {"island": "elsewhere"},
        {"chain": "elsewhere"},
    ],
)
async def test_orders_that_do_not_fit_are_not_matched(fleet: Fleet, changes: dict[str, Any]) -> None:
    who = await someone(fleet)
    offer = await market_of(fleet).posted_orders.place(who, order(Side.OFFER, island="here", chain="main"))
    bid = await market_of(fleet).posted_orders.place(
        who, order(Side.BID, **({"island": "here", "chain": "main"} | changes))
    )
    with pytest.raises(OrdersDoNotFit):
        await market_of(fleet).posted_orders.match(who, MatchOrders(offer=offer.id, bid=bid.id))
    assert await state_of(fleet, offer.id) == ("active", False)


@pytest.mark.parametrize(
    "told", [{"provider_node": "x"}, {"bidder_node": "x"}, {"gpu_count": 1}, {"price_units": 1}, {"duration_ms": HOUR}]
)
async def test_a_match_on_terms_that_are_not_those_of_its_orders_is_refused(fleet: Fleet, told: dict[str, Any]) -> None:
    book = await book_on(fleet)
    with pytest.raises(OrdersDoNotFit):
        await market_of(fleet).posted_orders.match(
            book.buyer, MatchOrders(offer=book.offer.id or "", bid=book.bid.id or "", **told)
        )


async def test_a_match_is_at_the_price_of_the_offer_and_both_sides_show_it(fleet: Fleet) -> None:
    provider, buyer = await someone(fleet), await someone(fleet)
    offer = await market_of(fleet).posted_orders.place(provider, order(Side.OFFER, node="prov"))
    bid = await market_of(fleet).posted_orders.place(buyer, order(Side.BID, node="buy", price_units=2 * PRICE))
    match = await market_of(fleet).posted_orders.match(
        provider, MatchOrders(offer=offer.id, bid=bid.id, total_told=3.6)
    )
    assert (match.price_units, match.total_units) == (PRICE, offer.total_units)
    for who, mine, other, node in ((provider, offer, bid, "buy"), (buyer, bid, offer, "prov")):
        (seen,) = await see(fleet, who, id=mine.id)
        assert (seen.state, seen.matched_with, seen.matched_price_units) == ("matched", other.id, PRICE)
        assert seen.partner_node == node


async def test_strangers_cancel_and_match_nothing_and_see_only_what_is_open(fleet: Fleet) -> None:
    book = await book_on(fleet)
    stranger = await someone(fleet)
    ours = {book.offer.id, book.bid.id}
    assert ours <= {one.id for one in await see(fleet, stranger)}
    for deed in (
        market_of(fleet).posted_orders.cancel(stranger, CancelOrder(order=str(book.offer.id))),
        market_of(fleet).posted_orders.cancel(book.provider, CancelOrder(order=str(book.offer.id), node="another")),
        market_of(fleet).posted_orders.match(stranger, MatchOrders(offer=str(book.offer.id), bid=str(book.bid.id))),
        market_of(fleet).posted_orders.accept(stranger, AcceptBid(bid=str(book.offer.id), node="n")),
        market_of(fleet).posted_orders.accept(stranger, AcceptBid(bid="nothing", node="n")),
        market_of(fleet).posted_orders.cancel(stranger, CancelOrder(order="nothing")),
        market_of(fleet).posted_orders.match(book.buyer, MatchOrders(offer="nothing", bid=str(book.bid.id))),
    ):
        with pytest.raises(OrderNotFound):
            await deed
    await book.do("match")
    assert not ours & {one.id for one in await see(fleet, stranger)}
    assert ours <= {one.id for one in await see(fleet, book.buyer)}
    assert ours <= {one.id for one in await see(fleet, (await fleet.stage.admin()).principal)}


async def test_the_same_order_again_is_harmless_and_another_under_its_id_is_refused(fleet: Fleet) -> None:
    who, other = await someone(fleet), await someone(fleet)
    wish = order(Side.OFFER)
    first, again = (
        await market_of(fleet).posted_orders.place(who, wish),
        await market_of(fleet).posted_orders.place(who, wish),
    )
    assert first == again
    for thief, changes in ((who, {"gpu_count": 3}), (other, {})):
        with pytest.raises(OrderIdTaken):
            await market_of(fleet).posted_orders.place(thief, order(Side.OFFER, **({"id": wish.id} | changes)))
    found = await outcomes(
        [market_of(fleet).posted_orders.place(who, order(Side.BID, id=f"{wish.id}-b")) for _ in range(10)]
    )
    assert len({one.id for one in found}) == 1
    assert len(await fleet.sql("SELECT 1 FROM marketplace.posted_orders WHERE id LIKE $1", f"{wish.id}%")) == 2


async def test_the_same_command_that_says_when_it_was_given_is_a_repetition_and_changes_nothing(fleet: Fleet) -> None:
    book = await book_on(fleet)
    match = MatchOrders(offer=str(book.offer.id), bid=str(book.bid.id), said_at="2026-01-01T00:00:00")
    first = await market_of(fleet).posted_orders.match(book.buyer, match)
    assert await market_of(fleet).posted_orders.match(book.buyer, match) == first
    with pytest.raises(OrderNotOpen):
        await market_of(fleet).posted_orders.match(book.provider, match)
    bid = await market_of(fleet).posted_orders.place(book.buyer, order(Side.BID))
    accept = AcceptBid(bid=bid.id, node="p", said_at="then")
    taken = await market_of(fleet).posted_orders.accept(book.provider, accept)
    assert await market_of(fleet).posted_orders.accept(book.provider, accept) == taken
    offer = await market_of(fleet).posted_orders.place(book.provider, order(Side.OFFER))
    cancel = CancelOrder(order=offer.id, said_at="then")
    gone = await market_of(fleet).posted_orders.cancel(book.provider, cancel)
    assert await market_of(fleet).posted_orders.cancel(book.provider, cancel) == gone


async def test_a_key_of_idempotency_answers_again_what_it_answered(fleet: Fleet) -> None:
    who = await someone(fleet)
    once = [IdempotencyKey(account=who.account, key=name(), fingerprint=b"1") for _ in range(2)]
    wish = order(Side.OFFER, id=None)
    placed = await market_of(fleet).posted_orders.place(who, wish, once[0])
    assert await market_of(fleet).posted_orders.place(who, wish, once[0]) == placed
    cancelled = await market_of(fleet).posted_orders.cancel(who, CancelOrder(order=placed.id), once[1])
    assert await market_of(fleet).posted_orders.cancel(who, CancelOrder(order=placed.id), once[1]) == cancelled


async def test_an_account_has_a_bounded_number_of_open_orders(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.modules.marketplace.service.posted_orders.orders.ORDERS_OPEN_MAX", 2)
    who = await someone(fleet)
    first = await market_of(fleet).posted_orders.place(who, order(Side.OFFER))
    await market_of(fleet).posted_orders.place(who, order(Side.BID))
    with pytest.raises(TooManyOrders):
        await market_of(fleet).posted_orders.place(who, order(Side.BID))
    await market_of(fleet).posted_orders.cancel(who, CancelOrder(order=first.id))
    await market_of(fleet).posted_orders.place(who, order(Side.BID))


async def test_the_book_is_read_from_the_newest_on_by_what_is_asked_for(fleet: Fleet) -> None:
    who = await someone(fleet)
    island = name()
    a100 = await market_of(fleet).posted_orders.place(
        who, order(Side.OFFER, island=island, model="NVIDIA A100%", region="EU")
    )
    h100 = await market_of(fleet).posted_orders.place(
        who, order(Side.OFFER, island=island, model="NVIDIA H100", price_units=9, node="p")
    )
    bid = await market_of(fleet).posted_orders.place(who, order(Side.BID, island=island))
    await market_of(fleet).posted_orders.accept(who, AcceptBid(bid=bid.id, node="p"))

    async def found(**wish: Any) -> list[str]:
        return [one.id for one in await see(fleet, who, island=island, **wish)]

    assert await found() == [bid.id, h100.id, a100.id]
    assert await found(limit=2) == [bid.id, h100.id]
    assert await found(side=Side.OFFER) == [h100.id, a100.id]
    assert await found(model="a100%") == [a100.id]
    assert await found(region="eu") == [a100.id]
    assert await found(price_max_units=9) == [h100.id]
    assert await found(provider="p") == [bid.id, h100.id]
    assert await found(states=frozenset({"accepted"})) == [bid.id]
    assert await found(id=a100.id) == [a100.id]
    assert await found(id="nothing") == []


async def test_an_order_that_nobody_took_for_a_month_expires_and_is_never_taken(fleet: Fleet) -> None:
    book, young = await book_on(fleet), await book_on(fleet)
    clock.move(timedelta(days=30, seconds=1))
    for deed in ("accept", "match"):  # also before anybody noted that it is over
        with pytest.raises(OrderNotOpen):
            await book.do(deed)
    late = await market_of(fleet).posted_orders.place(book.buyer, order(Side.BID))
    await young.do("cancel_offer")
    await market_of(fleet).expire_orders()
    assert await state_of(fleet, str(book.offer.id)) == await state_of(fleet, str(book.bid.id)) == ("expired", True)
    assert await state_of(fleet, str(young.offer.id)) == ("cancelled", True)
    assert await state_of(fleet, late.id) == ("pending", False)
    for deed in ("accept", "match", "cancel_bid", "cancel_offer"):
        with pytest.raises(OrderNotOpen):
            await book.do(deed)
    assert (await see(fleet, book.buyer, id=book.bid.id))[0].state == "expired"
    assert await see(fleet, book.buyer, id=book.offer.id) == []


async def test_a_bid_is_accepted_by_whoever_offers_also_by_another_node_of_its_own_account(fleet: Fleet) -> None:
    bidder, stranger = await someone(fleet), await someone(fleet)
    for who in (stranger, bidder):
        bid = await market_of(fleet).posted_orders.place(bidder, order(Side.BID))
        taken = await market_of(fleet).posted_orders.accept(who, AcceptBid(bid=bid.id, node="gives"))
        assert (taken.state, taken.partner_node) == ("accepted", "gives")


async def test_the_engine_of_all_bids_decides_and_its_log_leads_to_the_same_bids(fleet: Fleet) -> None:
    market, book = market_of(fleet), await book_on(fleet)
    mine = await market.posted_orders.place(book.buyer, order(Side.BID, node="buy"))
    with pytest.raises(OrdersDoNotFit):  # its own, by whichever way
        await market.posted_orders.accept(book.buyer, AcceptBid(bid=mine.id, node="buy"))
    own = await market.posted_orders.place(book.buyer, order(Side.OFFER, node="buy"))
    with pytest.raises(OrdersDoNotFit):
        await market.posted_orders.match(book.buyer, MatchOrders(offer=own.id, bid=mine.id))
    taken = await market.posted_orders.place(book.buyer, order(Side.BID, node="buy"))
    await market.posted_orders.accept(book.provider, AcceptBid(bid=taken.id, node="prov"))
    await book.do("match")
    log = [row["body"] for row in await fleet.sql("SELECT body FROM marketplace.book_events ORDER BY sequence")]
    rests = await fleet.sql(
        "SELECT id FROM marketplace.posted_orders WHERE side = 'bid' AND state = 'pending' ORDER BY sequence"
    )
    again = [bid for bid in replayed(log).resting if bid.startswith("posted/")]
    assert again == [f"posted/{row['id']}" for row in rests]
    assert f"posted/{mine.id}" in again and not {f"posted/{taken.id}", f"posted/{book.bid.id}"} & set(again)


async def test_orders_that_gpu_kept_before_are_taken_over_with_the_log_of_their_bids(
    new_database: Callable[[], Target],
) -> None:
    target = new_database()
    found = {part.name: part for part in parts(MODULES)}
    way = target.connect_arguments(application="tests", statement_seconds=60)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(**way))
    async with engine.connect() as connection:
        for module, before in (("marketplace", "marketplace_0008"), ("gpu", "gpu_0016")):
            await connection.run_sync(functools.partial(downgrade, found[module], before))
    await engine.dispose()
    account = ids.new_id("acct")
    columns = "id, side, account, node, gpu_count, price_units, duration_ms, total_units, specs, description, state"
    for name, side, state in (("o-1", "offer", "active"), ("b-1", "bid", "pending"), ("b-2", "bid", "pending")):
        values = f"'{name}', '{side}', '{ids.decode('acct', account)}', 'n', 1, 5, 1000, 5, '{{}}', '', '{state}'"
        await run_sql(
            target,
            f"INSERT INTO gpu.market_orders ({columns}, created_at, content) VALUES ({values}, now(), ''::bytea)",
        )
    await migrate(target, list(found.values()), secret=None)
    database = await asyncpg.connect(**way)
    try:
        kept = await database.fetch("SELECT id, sequence FROM marketplace.posted_orders ORDER BY id")
        log = [row["body"] for row in await database.fetch("SELECT body FROM marketplace.book_events")]
        assert await database.fetchval("SELECT to_regclass('gpu.market_orders')") is None
    finally:
        await database.close()
    assert [(row["id"], row["sequence"]) for row in kept] == [("b-1", 1), ("b-2", 2), ("o-1", None)]
    bids = [bid for bid, _ in replayed(log).resting.values()]
    assert [(bid.bid, bid.payer, bid.limit_units) for bid in bids] == [
        ("posted/b-1", f"{account} n", 5),
        ("posted/b-2", f"{account} n", 5),
    ]

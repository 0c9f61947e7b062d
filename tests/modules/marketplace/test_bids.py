"""Bids for the time of miners: matched in the order of price and time, paid out of what is held, and never with oneself."""

import functools
import random
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.models.engine import replayed
from aitbc.modules.marketplace.service.bids.bids import PlaceBid
from aitbc.modules.marketplace.service.bids.book import load_engine
from aitbc.modules.trading.api import PlaceHold
from tests.app import Caller
from tests.modules.gpu.make import Fleet, Rig, fleet_on, gpu_device
from tests.modules.marketplace.make import MARKET, audited, changed, made, market_of
from tests.modules.marketplace.test_booking_crashes import cut
from tests.scale import scaled

pytestmark = pytest.mark.anyio
BIDS, BOOKINGS = f"{MARKET}/bids", f"{MARKET}/bookings"
STEPS = scaled(30, 1_000)


@pytest.fixture(scope="module")
async def fleet(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """The running app of this file, which does nothing by itself."""
    async with fleet_on(target, tmp_path_factory.mktemp("app"), periodic=False) as fleet:
        yield fleet


class Street:
    """Miners of one region that nobody else's are in, and who sells and buys there."""

    def __init__(self, fleet: Fleet, owner: Caller) -> None:
        self.fleet, self.owner, self.region = fleet, owner, uuid.uuid4().hex
        self.rigs: dict[str, Rig] = {}
        """By offer."""

    async def sells(self, price: str, owner: Caller | None = None) -> dict[str, Any]:
        """One more miner that is on sale."""
        who = owner or self.owner
        rig = await self.fleet.rig(who, devices=[gpu_device()], kinds=["embed"], device="gpu", region=self.region)
        offer = await made(who, miner=rig.id, sells="device", device=0, price=price)
        self.rigs[offer["id"]] = rig
        return offer

    async def bids(self, who: Caller, price: str, once: str | None = None, **how: Any) -> dict[str, Any]:
        """A bid that is taken."""
        wish = {"filter": f"region = {self.region}", "duration_seconds": 600, "price_hour": price, **how}
        answer = await who.post(BIDS, wish, once=once or uuid.uuid4().hex)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def asks(self, who: Caller, price: str, minutes: float = 10, **how: Any) -> dict[str, Any]:
        """A request that is taken."""
        deadline = (now() + timedelta(minutes=minutes)).isoformat()
        wish = {"filter": f"region = {self.region}", "duration_seconds": 600, "price_hour": price, "deadline": deadline}
        answer = await who.post(f"{MARKET}/requests", wish | how, once=uuid.uuid4().hex)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def keep(self) -> None:
        """What the periodic tasks do, with miners that are heard of."""
        for rig in self.rigs.values():
            await rig.heartbeat()
        await market_of(self.fleet).keep_bids()
        await market_of(self.fleet).keep_bookings()


def got(bid: dict[str, Any]) -> list[tuple[str, str]]:
    """The offers that a bid got, and at which prices."""
    return [(one["offer"], one["price_hour"]) for one in bid["trades"]]


async def held(fleet: Fleet, who: Caller) -> int:
    """What is held of somebody's money."""
    return int((await fleet.stage.service("trading").balance(who.principal.account)).held_units)


async def street(fleet: Fleet) -> tuple[Street, Caller]:
    """A street with a seller, and a buyer with money."""
    return Street(fleet, await fleet.owner()), await fleet.owner(funds="10")


async def test_a_bid_takes_the_cheapest_at_its_price_and_the_rest_of_it_waits_with_its_money_held(fleet: Fleet) -> None:
    here, buyer = await street(fleet)
    dear, cheap, middle = [await here.sells(price) for price in ("2", "0.6", "0.9")]
    bid = await here.bids(buyer, "1.2", quantity=3, label="mine")
    assert got(bid) == [(cheap["id"], "0.6"), (middle["id"], "0.9")]
    assert (bid["state"], bid["filled"], bid["held"], bid["label"]) == ("open", 2, "0.1", "mine")
    bookings = [(await buyer.get(f"{BOOKINGS}/{one['booking']}")).json() for one in bid["trades"]]
    assert [(one["state"], one["price_hour"]) for one in bookings] == [("active", "0.6"), ("active", "0.9")]
    assert await held(fleet, buyer) == money.parse("0.3")  # three slices at the limit
    late = await here.sells("1")
    await here.keep()
    filled = (await buyer.get(f"{BIDS}/{bid['id']}")).json()
    assert (filled["state"], filled["held"]) == ("filled", "0")
    assert got(filled)[-1] == (late["id"], "1.2")  # what rests names the price
    assert (await here.owner.get(f"{MARKET}/offers/{dear['id']}")).json()["state"] == "open"
    for one in filled["trades"]:
        over = (await buyer.post(f"{BOOKINGS}/{one['booking']}/end")).json()
        assert over["state"] == "ended"
    assert await held(fleet, buyer) == 0


async def test_each_kind_of_bid_leaves_behind_what_it_says(fleet: Fleet) -> None:
    here, buyer = await street(fleet)
    await here.sells("1")
    wishes: list[tuple[dict[str, Any], str, str | None, int]] = [
        ({"quantity": 2, "lasts": "fok"}, "canceled", "not_filled", 0),
        ({"post_only": True}, "canceled", "would_take", 0),
        ({"quantity": 2, "lasts": "ioc"}, "canceled", "momentary", 1),
        ({"lasts": "ioc"}, "canceled", "momentary", 0),
        ({"post_only": True}, "open", None, 0),
    ]
    for how, state, reason, filled in wishes:
        bid = await here.bids(buyer, "1", **how)
        assert (bid["state"], bid["reason"], bid["filled"]) == (state, reason, filled), how
    assert await held(fleet, buyer) == 2 * money.parse("0.08333333")
    for _ in range(2):
        canceled = (await buyer.post(f"{BIDS}/{bid['id']}/cancel")).json()
        assert (canceled["state"], canceled["reason"], canceled["held"]) == ("canceled", "canceled", "0")
    assert await held(fleet, buyer) == money.parse("0.08333333")


async def test_of_resting_bids_who_names_more_comes_first_then_the_older_and_nobody_trades_with_themselves(
    fleet: Fleet,
) -> None:
    here, low = await street(fleet)
    first, second = await fleet.owner(funds="5"), await fleet.owner(funds="5")
    await fund(fleet, here.owner)
    own = await here.bids(here.owner, "9")
    bids = {
        who.principal.account: await here.bids(who, price) for who, price in ((low, "1"), (first, "2"), (second, "2"))
    }
    await here.keep()
    for winner in (first, second, low):
        offer = await here.sells("0.5")
        await here.keep()
        named = bids[winner.principal.account]
        assert got((await winner.get(f"{BIDS}/{named['id']}")).json()) == [(offer["id"], named["price_hour"])]
    assert (await here.owner.get(f"{BIDS}/{own['id']}")).json()["filled"] == 0
    await here.owner.post(f"{BIDS}/{own['id']}/cancel")


async def fund(fleet: Fleet, who: Caller) -> None:
    """Give somebody money."""
    trading, operator = fleet.stage.service("trading"), fleet.stage.runtime.operator
    await trading.deposits.deposit(operator, who.principal.account, 10**9, "a gift", IdempotencyKey.NONE)


async def test_a_request_books_the_cheapest_ask_at_its_deadline(fleet: Fleet) -> None:
    here, buyer = await street(fleet)
    rival = await fleet.owner()
    mine, theirs = await here.sells("5"), await here.sells("5", rival)
    request = await here.asks(buyer, "1")
    assert (request["kind"], request["state"], request["held"]) == ("request", "open", "0.08333333")
    path = f"{BIDS}/{request['id']}/ask"
    dear = await here.owner.post(path, {"offer": mine["id"], "price_hour": "1.1"})
    assert (dear.status_code, dear.json()["code"]) == (409, "market_ask_not_fitting")
    assert (await here.owner.post(path, {"offer": theirs["id"], "price_hour": "1"})).status_code == 404
    assert (await here.owner.post(path, {"offer": mine["id"], "price_hour": "0.9"})).status_code == 200
    shown = (await rival.post(path, {"offer": theirs["id"], "price_hour": "0.8"})).json()
    assert [one["price_hour"] for one in shown["asks"]] == ["0.8"] and shown["account"] is None  # its own alone
    await here.owner.post(path, {"offer": mine["id"], "price_hour": "0.7"})
    assert len((await buyer.get(f"{BIDS}/{request['id']}")).json()["asks"]) == 2
    clock.move(timedelta(minutes=11))
    late = await rival.post(path, {"offer": theirs["id"], "price_hour": "0.1"})
    assert late.json()["code"] == "limit_bid_not_open"
    await here.keep()
    over = (await buyer.get(f"{BIDS}/{request['id']}")).json()
    assert (over["state"], got(over)) == ("filled", [(mine["id"], "0.7")])
    unanswered = await here.asks(buyer, "0.1", minutes=1)
    clock.move(timedelta(minutes=2))
    await here.keep()
    assert (await buyer.get(f"{BIDS}/{unanswered['id']}")).json()["reason"] == "closed"
    await buyer.post(f"{BOOKINGS}/{over['trades'][0]['booking']}/end")
    assert await held(fleet, buyer) == 0


async def test_what_cannot_be_bid_is_refused_and_holds_nothing(fleet: Fleet) -> None:
    here, buyer = await street(fleet)
    poor = await fleet.owner(funds="0.1")
    right = {"duration_seconds": 600, "price_hour": "1", "filter": f"region = {here.region}"}
    refused: list[tuple[Caller, dict[str, Any], int, str]] = [
        (buyer, {"filter": "vrem > 1GB"}, 422, "search_invalid"),
        (buyer, {"price_hour": "0"}, 422, "invalid_amount"),
        (buyer, {"quantity": 17}, 422, "invalid"),
        (buyer, {"post_only": True, "lasts": "ioc"}, 422, "invalid"),
        (buyer, {"valid_until": (now() - timedelta(hours=1)).isoformat()}, 422, "invalid"),
        (poor, {"quantity": 2}, 402, "insufficient_funds"),
    ]
    for who, change, status, code in refused:
        answer = await who.post(BIDS, right | change, once=uuid.uuid4().hex)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert [await held(fleet, who) for who in (buyer, poor)] == [0, 0]
    assert [one["reason"] for one in (await poor.get(BIDS)).json()["data"]] == ["no_funds"]
    once = uuid.uuid4().hex
    bid = await here.bids(buyer, "1", once)
    assert (await here.bids(buyer, "1", once))["id"] == bid["id"]
    assert await held(fleet, buyer) == money.parse("0.08333333")
    assert (await poor.post(f"{BIDS}/{bid['id']}/cancel")).status_code == 404
    public = (await poor.get(f"{BIDS}/{bid['id']}")).json()
    assert (public["account"], public["trades"]) == (None, [])
    assert bid["id"] in [one["id"] for one in (await poor.get(f"{MARKET}/book")).json()["data"]]
    clock.move(timedelta(days=8))
    await here.keep()
    assert (await buyer.get(f"{BIDS}/{bid['id']}")).json()["state"] == "expired"
    assert await held(fleet, buyer) == 0
    assert (await poor.get(f"{BIDS}/{bid['id']}")).status_code == 404


async def test_what_is_held_for_a_bid_that_was_given_up_meanwhile_goes_back(fleet: Fleet) -> None:
    here, buyer = await street(fleet)
    bids, trading = market_of(fleet).limit_bids, fleet.stage.service("trading")
    once = IdempotencyKey(account=buyer.principal.account, key=uuid.uuid4().hex, fingerprint=b"the same")
    command = PlaceBid(
        filter=f"region = {here.region}", seconds=600, limit_units=10**8, valid_until=now() + timedelta(days=1)
    )
    bid = await bids._begin(buyer.principal, command, once)
    await bids.cancel(buyer.principal, bid)
    (part,) = await fleet.sql("SELECT * FROM marketplace.bid_parts WHERE bid = $1", ids.decode("mbid", bid))
    late = PlaceHold(
        hold=ids.encode("hold", part["hold"]),
        payer=buyer.principal.account,
        amount_units=part["amount_units"],
        expires_at=now() + timedelta(days=9),
        reference=ids.encode("book", part["booking"]),
    )
    await trading.hold(late)
    assert (await bids.place(buyer.principal, command, once)).state == "canceled"
    assert await held(fleet, buyer) == 0


async def sound(fleet: Fleet, everybody: list[Caller], money_there: int) -> None:
    """What is held is what open bids and bookings say; all money is there; replaying the log leads to the same book."""
    market, trading = market_of(fleet), fleet.stage.service("trading")
    log = [row["body"] for row in await fleet.sql("SELECT body FROM marketplace.book_events ORDER BY sequence")]
    async with market.db.unit_of_work() as uow:
        engine = await load_engine(uow)
    again = replayed(log)
    assert (list(again.resting.items()), again.requests) == (list(engine.resting.items()), engine.requests)
    for who in everybody:
        account = ids.decode("acct", who.principal.account)
        (said,) = await fleet.sql(
            """SELECT (SELECT coalesce(sum(p.amount_units), 0) FROM marketplace.bid_parts p
                   JOIN marketplace.bids b ON b.id = p.bid WHERE b.account = $1 AND p.state = 'held')
               + (SELECT coalesce(sum(h.amount_units), 0) FROM marketplace.booking_slices s
                   JOIN marketplace.bookings b ON b.id = s.booking JOIN trading.holds h ON h.id = s.hold
                   WHERE b.account = $1 AND s.state = 'held') AS units""",
            account,
        )
        assert await held(fleet, who) == said["units"]
    balances = [await trading.balance(who.principal.account) for who in everybody]
    (fees,) = await fleet.sql("SELECT balance_units FROM trading.accounts WHERE purpose = 'fees'")
    await audited(fleet)
    assert sum(one.available_units + one.held_units for one in balances) + fees["balance_units"] == money_there


async def placed_again(here: Street, who: Caller, chance: random.Random) -> str:
    """A bid that was broken off while it was placed, and placed by the same request again."""
    bids = market_of(here.fleet).limit_bids
    once = IdempotencyKey(account=who.principal.account, key=uuid.uuid4().hex, fingerprint=b"the same")
    command = PlaceBid(
        filter=f"region = {here.region}",
        seconds=600,
        limit_units=chance.randint(4, 9) * 10**7,
        quantity=chance.randint(1, 3),
        lasts=chance.choice(("gtc", "gtc", "ioc", "fok")),
        valid_until=now() + timedelta(days=1),
    )
    await cut(functools.partial(bids.place, who.principal, command, once), chance.uniform(0, 0.06))
    return (await bids.place(who.principal, command, once)).id


async def test_whatever_happens_what_is_held_is_what_the_book_says_and_the_log_leads_to_it(fleet: Fleet) -> None:
    chance = random.Random(5)
    here, buyer = await street(fleet)
    other = await fleet.owner(funds="10")
    await fund(fleet, here.owner)
    everybody = [here.owner, buyer, other]
    offers = [await here.sells(price) for price in ("0.5", "0.7", "0.9")] + [await here.sells("0.6", other)]
    (fees,) = await fleet.sql("SELECT balance_units FROM trading.accounts WHERE purpose = 'fees'")
    there = 30 * 10**8 + fees["balance_units"]
    placed: list[tuple[Caller, str]] = []
    for step in range(STEPS):
        who = chance.choice(everybody)
        match chance.choice(("bid", "bid", "request", "ask", "cancel", "end", "price", "time")):
            case "bid":
                placed.append((who, await placed_again(here, who, chance)))
            case "request":
                placed.append((who, (await here.asks(who, "0.8", minutes=2))["id"]))
            case "ask" if placed:
                wish = {"offer": chance.choice(offers)["id"], "price_hour": f"0.{chance.randint(3, 9)}"}
                await here.owner.post(f"{BIDS}/{chance.choice(placed)[1]}/ask", wish)
            case "cancel" if placed:
                payer, which = chance.choice(placed)
                await payer.post(f"{BIDS}/{which}/cancel")
            case "end":
                for one in (await who.get(BOOKINGS, limit=3)).json()["data"]:
                    await who.post(f"{BOOKINGS}/{one['id']}/end")
            case "price":
                offer = (await here.owner.get(f"{MARKET}/offers/{chance.choice(offers)['id']}")).json()
                await changed(here.owner, offer, price=f"0.{chance.randint(3, 9)}")
            case "time":
                clock.move(timedelta(seconds=29))
        await cut(market_of(fleet).keep_bids, chance.uniform(0, 0.05))
        await here.keep()
        if step % 5 == 0:
            await sound(fleet, everybody, there)
    for payer, which in placed:
        await payer.post(f"{BIDS}/{which}/cancel")
    await here.keep()
    await sound(fleet, everybody, there)
    (held_,) = await fleet.sql(
        "SELECT count(*) AS parts FROM marketplace.bid_parts WHERE state NOT IN ('traded', 'returned')"
    )
    assert held_["parts"] == 0

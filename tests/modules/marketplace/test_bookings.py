"""Bookings of offers: paid by the second in slices, suspended without money and resumed with it, ended with a reason."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from aitbc.kernel.crypto.booking_receipt import verify_booking
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids, money
from aitbc.kernel.primitives.clock import now
from tests.app import Caller
from tests.modules.gpu.make import Fleet, Rig, fleet_on, gpu_device
from tests.modules.marketplace.make import MARKET, made, market_of

pytestmark = pytest.mark.anyio
BOOKINGS = f"{MARKET}/bookings"
STEP = timedelta(seconds=29)
"""So often a miner is heard of in these tests: often enough for all of its time to count."""


@pytest.fixture(scope="module")
async def fleet(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """The running app of this file, which does nothing by itself."""
    async with fleet_on(target, tmp_path_factory.mktemp("app"), periodic=False) as fleet:
        yield fleet


class Sale:
    """A miner on sale for 3.6 AITBC an hour (0.001 a second), and somebody who would have it."""

    def __init__(self, fleet: Fleet, owner: Caller, buyer: Caller, rig: Rig, offer: dict[str, Any]) -> None:
        self.fleet, self.owner, self.buyer, self.rig, self.offer = fleet, owner, buyer, rig, offer

    def wish(self, seconds: int = 3600, **changes: Any) -> dict[str, Any]:
        """What a booking asks for."""
        return {"offer": self.offer["id"], "duration_seconds": seconds, "max_price": "100", **changes}

    async def book(self, seconds: int = 3600, **changes: Any) -> dict[str, Any]:
        """A booking that is made."""
        answer = await self.buyer.post(BOOKINGS, self.wish(seconds, **changes), once=uuid.uuid4().hex)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def pass_time(self, seconds: float, *, alive: bool = True, busy: int = 0) -> None:
        """Let time pass, with heartbeats of the miner if it is alive, and the keeper at work."""
        until = now() + timedelta(seconds=seconds)
        while (left := until - now()) > timedelta(milliseconds=50):
            clock.move(min(STEP, left))
            if alive:
                await self.rig.heartbeat(slots_busy=busy)
            await self.keep()

    async def keep(self) -> None:
        """What the periodic tasks do."""
        await market_of(self.fleet).keep_bookings()
        await self.fleet.gpu.reconcile_bookings()

    async def see(self, booking: dict[str, Any]) -> dict[str, Any]:
        """A booking as it is now."""
        return dict((await self.buyer.get(f"{BOOKINGS}/{booking['id']}")).json())

    async def purse(self, who: Caller) -> tuple[Decimal, Decimal]:
        """What somebody has, and what is held of it."""
        found = await self.fleet.stage.service("trading").balance(who.principal.account)
        return Decimal(money.render(found.available_units)), Decimal(money.render(found.held_units))


async def for_sale(fleet: Fleet, *, funds: str = "10", **offer: Any) -> Sale:
    """A sale of a new miner to a new buyer."""
    owner, buyer = await fleet.owner(), await fleet.owner(funds=funds)
    rig = await fleet.rig(owner, devices=[gpu_device()], kinds=["embed"], device="gpu")
    terms = {"min_seconds": 60, "price": "3.6", **offer}
    return Sale(fleet, owner, buyer, rig, await made(owner, miner=rig.id, sells="device", device=0, **terms))


def near(amount: Decimal, expected: str, within: str = "0.03") -> bool:
    """Whether an amount is the expected one but for the seconds that a test itself takes."""
    return abs(amount - Decimal(expected)) <= Decimal(within)


async def test_a_quote_says_what_a_booking_costs_and_how_long_the_money_lasts_and_changes_nothing(fleet: Fleet) -> None:
    sale = await for_sale(fleet, funds="1.8")
    quote = (await sale.buyer.post(f"{MARKET}/booking-quotes", sale.wish())).json()
    assert (quote["price_hour"], quote["price_max"], quote["held_first"]) == ("3.6", "3.6", "0.3")
    lasts = datetime.fromisoformat(quote["money_until"]) - datetime.fromisoformat(quote["starts_at"])
    assert lasts == timedelta(minutes=30)
    assert quote["is_free"] is True
    assert "not paid" in quote["refund_rule"]
    assert (await sale.buyer.get(BOOKINGS)).json()["data"] == []
    assert await sale.purse(sale.buyer) == (Decimal("1.8"), Decimal(0))


async def test_time_is_held_before_it_is_used_and_paid_by_the_second_when_it_is_given_back(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    booking = await sale.book()
    assert (booking["state"], booking["held_seconds"]) == ("active", 300.0)
    assert await sale.purse(sale.buyer) == (Decimal("9.7"), Decimal("0.3"))
    assert (await sale.owner.get(f"{MARKET}/offers/{sale.offer['id']}")).json()["state"] == "booked"
    await sale.pass_time(400)
    seen = await sale.see(booking)
    assert near(Decimal(str(seen["used_seconds"])), "400", "25")
    assert seen["paid"] == "0.3"  # the first slice is over
    over = (await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")).json()
    assert (over["state"], over["reason"]) == ("ended", "released")
    available, held = await sale.purse(sale.buyer)
    assert held == 0
    assert available + Decimal(over["paid"]) == 10
    assert Decimal(over["paid"]) == Decimal(str(over["used_seconds"])) / 1000
    statement = (await sale.owner.get(f"{BOOKINGS}/{booking['id']}/statement")).json()
    assert statement == (await sale.buyer.get(f"{BOOKINGS}/{booking['id']}/statement")).json()
    assert sum(Decimal(one["paid"]) for one in statement["slices"]) == Decimal(over["paid"])
    assert all(one["transaction"] for one in statement["slices"])
    signed = await sale.owner.get(f"{BOOKINGS}/{booking['id']}/receipt")
    told = verify_booking(signed.content).receipt
    assert (told["paid"], told["machine_ms"], told["offer"]) == (over["paid"], 0, sale.offer["id"])
    assert [one["transaction"] for one in told["slices"]] == [one["transaction"] for one in statement["slices"]]
    again = (await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")).json()
    assert again == over
    say = {"subject": booking["id"], "stars": 4}
    assert (await sale.owner.post(f"{MARKET}/ratings", say)).json()["code"] == "rated_receipt_not_found"
    assert (await sale.buyer.post(f"{MARKET}/ratings", say)).json()["miner"] == sale.rig.id
    assert (await sale.owner.get(f"{MARKET}/offers/{sale.offer['id']}")).json()["state"] == "open"


async def test_without_money_it_is_suspended_and_a_top_up_resumes_it_and_its_jobs(fleet: Fleet) -> None:
    sale = await for_sale(fleet, funds="0.42")
    booking = await sale.book()
    await sale.pass_time(330)
    assert (await sale.see(booking))["state"] == "active"  # what is left pays a shorter slice
    await sale.pass_time(120)
    suspended = await sale.see(booking)
    assert suspended["state"] == "suspended", suspended
    assert suspended["suspended_until"] is not None
    paid = Decimal(suspended["paid"])
    await sale.pass_time(120)
    assert Decimal((await sale.see(booking))["paid"]) == paid  # suspended time costs nothing
    await fund(sale, "1")
    await sale.pass_time(20)
    assert (await sale.see(booking))["state"] == "active"
    await sale.pass_time(100)
    over = (await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")).json()
    assert near(Decimal(over["paid"]) - paid, "0.1", "0.045")


async def fund(sale: Sale, amount: str) -> None:
    """Top up the buyer's account."""
    runtime = sale.fleet.stage.runtime
    trading = sale.fleet.stage.service("trading")
    account = sale.buyer.principal.account
    await trading.deposits.deposit(runtime.operator, account, money.parse(amount), "a top-up", IdempotencyKey.NONE)


async def test_after_the_grace_an_unpaid_one_ends_with_its_reason(fleet: Fleet) -> None:
    sale = await for_sale(fleet, funds="0.3")
    booking = await sale.book()
    await sale.pass_time(320)
    assert (await sale.see(booking))["state"] == "suspended"
    clock.move(timedelta(minutes=61))
    await sale.rig.heartbeat()
    await sale.keep()
    over = await sale.see(booking)
    assert (over["state"], over["reason"]) in (("ended", "unpaid"), ("ended", "completed"))
    assert Decimal(over["paid"]) <= Decimal("0.3")
    assert await sale.purse(sale.buyer) == (Decimal("0.3") - Decimal(over["paid"]), Decimal(0))


async def test_warnings_come_once_for_each_threshold(fleet: Fleet) -> None:
    sale = await for_sale(fleet, funds="5")  # 5,000 seconds of three hours
    booking = await sale.book(10_800)
    await sale.pass_time(40)
    level = await fleet.sql("SELECT warned FROM marketplace.bookings WHERE id = $1", ids.decode("book", booking["id"]))
    assert level[0]["warned"] == 1  # it ends within 24 hours
    await sale.pass_time(1500)
    level = await fleet.sql("SELECT warned FROM marketplace.bookings WHERE id = $1", ids.decode("book", booking["id"]))
    assert level[0]["warned"] == 2  # within one
    await fund(sale, "20")
    await sale.pass_time(20)
    level = await fleet.sql("SELECT warned FROM marketplace.bookings WHERE id = $1", ids.decode("book", booking["id"]))
    assert level[0]["warned"] == 0
    await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")


async def test_no_two_bookings_of_a_miner_overlap_whoever_asks_at_once(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    start = now() + timedelta(hours=2)
    wish = sale.wish(starts_at=start.isoformat())
    answers = await asyncio.gather(*(sale.buyer.post(BOOKINGS, wish, once=uuid.uuid4().hex) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"market_time_taken"}
    (reserved,) = (answer.json() for answer in answers if answer.status_code == 201)
    assert reserved["state"] == "reserved"
    until = await sale.buyer.post(BOOKINGS, sale.wish(7_300), once=uuid.uuid4().hex)
    assert until.json()["code"] == "market_time_taken"
    before = await sale.book(3_600)
    assert before["state"] == "active"
    await sale.buyer.post(f"{BOOKINGS}/{before['id']}/end")
    given_up = (await sale.buyer.post(f"{BOOKINGS}/{reserved['id']}/end")).json()
    assert (given_up["state"], given_up["paid"]) == ("ended", "0")


async def test_a_reserved_one_begins_at_its_time_and_ends_when_its_miner_cannot_be_had(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    start = now() + timedelta(minutes=10)
    reserved = await sale.book(600, starts_at=start.isoformat())
    await sale.pass_time(590)
    assert (await sale.see(reserved))["state"] == "reserved"
    await sale.pass_time(30)
    assert (await sale.see(reserved))["state"] == "active"
    await sale.pass_time(620)
    over = await sale.see(reserved)
    assert (over["state"], over["reason"]) == ("ended", "completed")
    second = await sale.book(3600, starts_at=(now() + timedelta(minutes=5)).isoformat())
    await fleet.sql("UPDATE gpu.miners SET status = 'offline' WHERE id = $1", ids.decode("mnr", sale.rig.id))
    clock.move(timedelta(minutes=6))
    await sale.keep()
    assert (await sale.see(second))["state"] == "reserved"
    clock.move(timedelta(minutes=16))
    await sale.keep()
    gone = await sale.see(second)
    assert (gone["state"], gone["reason"], gone["paid"]) == ("ended", "miner_unavailable", "0")
    assert (await sale.purse(sale.buyer))[1] == 0


async def test_a_price_changes_by_consent_only(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    booking = await sale.book()
    path = f"{BOOKINGS}/{booking['id']}/price"
    assert (await sale.buyer.post(path, {"price_hour": "7.2"})).status_code == 404
    proposed = (await sale.owner.post(path, {"price_hour": "7.2"})).json()
    assert (proposed["price_hour"], proposed["proposed_price_hour"]) == ("3.6", "7.2")
    await sale.pass_time(260)
    wrong = await sale.buyer.post(f"{path}/answer", {"price_hour": "8", "accept": True})
    assert wrong.json()["code"] == "price_not_proposed"
    for _ in range(2):
        agreed = (await sale.buyer.post(f"{path}/answer", {"price_hour": "7.2", "accept": True})).json()
        assert (agreed["price_hour"], agreed["proposed_price_hour"]) == ("7.2", None)
    await sale.pass_time(300)
    prices = [one["price_hour"] for one in (await statement(sale, booking))["slices"]]
    assert prices[:2] == ["3.6", "3.6"]
    assert prices[2] == "7.2"
    await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")


async def statement(sale: Sale, booking: dict[str, Any]) -> dict[str, Any]:
    return dict((await sale.buyer.get(f"{BOOKINGS}/{booking['id']}/statement")).json())


async def test_an_interruptible_one_ends_after_notice_and_another_not_at_all(fleet: Fleet) -> None:
    sale = await for_sale(fleet, interruptible=True)
    booking = await sale.book()
    told = (await sale.owner.post(f"{BOOKINGS}/{booking['id']}/interrupt")).json()
    assert told["interrupt_at"] is not None
    assert (await sale.owner.post(f"{BOOKINGS}/{booking['id']}/interrupt")).json() == told
    await sale.pass_time(580)
    assert (await sale.see(booking))["state"] == "active"
    await sale.pass_time(40)
    over = await sale.see(booking)
    assert (over["state"], over["reason"]) == ("ended", "interrupted")
    firm = await for_sale(fleet)
    other = await firm.book()
    refused = await firm.owner.post(f"{BOOKINGS}/{other['id']}/interrupt")
    assert refused.json()["code"] == "not_interruptible"
    await firm.buyer.post(f"{BOOKINGS}/{other['id']}/end")


async def test_the_payers_guard_ends_one_that_nobody_works_on(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    offer = {**sale.rig.offer, "machine": {"available": True, "images": ["python"]}}
    await sale.rig.call("PUT", f"/miners/{sale.rig.id}/capabilities", offer)
    booking = await sale.book(idle_after_seconds=300)
    await sale.pass_time(280, busy=1)
    await sale.pass_time(280)
    assert (await sale.see(booking))["state"] == "active"
    # Who is connected to the machine works there, though no job does
    path = f"/api/v1/gpu/bookings/{booking['id']}/sessions"
    made = (await sale.buyer.post(path, {"purpose": "shell"}, once=uuid.uuid4().hex)).json()
    await fleet.gpu.machines.note_open(made["id"])
    await sale.pass_time(600)
    assert (await sale.see(booking))["state"] == "active"
    await fleet.gpu.machines.note_ended(made["id"], "client_closed")
    await sale.pass_time(280)
    assert (await sale.see(booking))["state"] == "active"
    await sale.pass_time(60)
    over = await sale.see(booking)
    assert (over["state"], over["reason"]) == ("ended", "idle")


async def test_time_in_which_the_miner_is_away_is_not_paid_and_a_lost_miner_ends_it(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    booking = await sale.book()
    await sale.pass_time(100)
    used = Decimal(str((await sale.see(booking))["used_seconds"]))
    await fleet.sql("UPDATE gpu.miners SET status = 'offline' WHERE id = $1", ids.decode("mnr", sale.rig.id))
    clock.move(timedelta(minutes=16))
    await sale.keep()
    over = await sale.see(booking)
    assert (over["state"], over["reason"]) == ("ended", "miner_lost")
    assert Decimal(over["paid"]) * 1000 <= used + 60  # what a heartbeat stands for at most
    assert (await sale.purse(sale.buyer))[1] == 0


async def test_what_cannot_be_booked_is_refused_and_leaves_nothing_behind(fleet: Fleet) -> None:
    sale = await for_sale(fleet, funds="0.1")
    poor = await sale.buyer.post(BOOKINGS, sale.wish(), once=uuid.uuid4().hex)
    assert (poor.status_code, poor.json()["code"]) == (402, "insufficient_funds")
    assert await sale.purse(sale.buyer) == (Decimal("0.1"), Decimal(0))
    short = await sale.buyer.post(BOOKINGS, sale.wish(30), once=uuid.uuid4().hex)
    assert short.status_code == 422
    dear = await sale.buyer.post(BOOKINGS, sale.wish() | {"max_price": "3"}, once=uuid.uuid4().hex)
    assert dear.json()["code"] == "market_booking_costs_more"
    stranger = await fleet.owner(funds="10")
    rich = Sale(fleet, sale.owner, stranger, sale.rig, sale.offer)
    booking = await rich.book()
    assert (await sale.buyer.get(f"{BOOKINGS}/{booking['id']}")).status_code == 404
    assert (await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")).status_code == 404
    taken = await sale.buyer.post(BOOKINGS, sale.wish(60) | {"max_price": "0.06"}, once=uuid.uuid4().hex)
    assert taken.json()["code"] == "market_time_taken"
    await rich.buyer.post(f"{BOOKINGS}/{booking['id']}/end")


async def test_the_same_request_again_is_the_same_booking(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    once = uuid.uuid4().hex
    first = (await sale.buyer.post(BOOKINGS, sale.wish(), once=once)).json()
    assert (await sale.buyer.post(BOOKINGS, sale.wish(), once=once)).json()["id"] == first["id"]
    assert (await sale.buyer.post(BOOKINGS, sale.wish(7200), once=once)).status_code == 422
    await sale.buyer.post(f"{BOOKINGS}/{first['id']}/end")


async def test_jobs_of_a_booking_go_to_its_miner_and_wait_while_it_is_suspended(fleet: Fleet) -> None:
    sale = await for_sale(fleet, funds="0.35")
    booking = await sale.book()
    job = await fleet.submit(sale.buyer, requirements={"booking": booking["id"]}, max_price="0.00000001")
    lease = await sale.rig.take()
    assert lease["job"] == job["id"]
    waiting = await fleet.submit(sale.buyer, requirements={"booking": booking["id"]}, max_price="0.00000001")
    await sale.pass_time(420, busy=1)
    assert (await sale.see(booking))["state"] == "suspended"
    assert (await sale.rig.poll(slots=2))["leases"] == []
    await fund(sale, "1")
    await sale.pass_time(20)
    assert (await sale.see(booking))["state"] == "active"
    jobs = [one["job"] for one in (await sale.rig.poll(slots=2))["leases"]]
    assert waiting["id"] in jobs
    await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")

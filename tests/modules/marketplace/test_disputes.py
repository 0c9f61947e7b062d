"""Disputes: money of the owner is set aside, both sides speak, one word or time divides it, and it always adds up."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids, money
from aitbc.modules.marketplace.models.disputes import parts_of
from tests.app import Caller
from tests.modules.gpu.make import Fleet, fleet_on, gpu_device
from tests.modules.marketplace.make import MARKET, audited, market_of
from tests.modules.marketplace.test_bookings import BOOKINGS, Sale, for_sale
from tests.modules.marketplace.test_ratings import receipt_of

pytestmark = pytest.mark.anyio
DISPUTES = f"{MARKET}/disputes"
STRANGE = ids.new_id("dspt")


@pytest.fixture(scope="module")
async def fleet(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """The running app of this file, which does nothing by itself."""
    async with fleet_on(target, tmp_path_factory.mktemp("app"), periodic=False) as fleet:
        yield fleet


async def over(fleet: Fleet, seconds: float = 400) -> tuple[Sale, dict[str, Any]]:
    """A booking that was used for some time, paid and given back."""
    sale = await for_sale(fleet)
    booking = await sale.book()
    await sale.pass_time(seconds)
    ended = (await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")).json()
    assert ended["state"] == "ended"
    return sale, ended


async def disputed(who: Caller, subject: str, **body: Any) -> Any:
    """The answer to somebody who disputes."""
    wish = {"subject": subject, "reason": "It was slow.", **body}
    return await who.post(DISPUTES, wish, once=uuid.uuid4().hex)


async def begun(who: Caller, subject: str, **body: Any) -> dict[str, Any]:
    """A dispute that is open."""
    answer = await disputed(who, subject, **body)
    assert (answer.status_code, answer.json()["state"]) == (201, "open"), answer.text
    return dict(answer.json())


async def decided(fleet: Fleet, dispute: dict[str, Any], points: int) -> Any:
    """The answer to the operator's decision."""
    admin = await fleet.stage.admin()
    body = {"share_basis_points": points, "reason": "So it is."}
    return await admin.post(f"{DISPUTES}/{dispute['id']}/decision", body, once=uuid.uuid4().hex)


async def everything(fleet: Fleet) -> tuple[int, int]:
    """All the money of people and the system, which is none, and what escrow and open holds differ by."""
    (row,) = await fleet.sql("""
        SELECT (SELECT sum(balance_units) FROM trading.accounts) AS total,
            (SELECT balance_units FROM trading.accounts WHERE purpose = 'escrow')
            - (SELECT coalesce(sum(amount_units), 0) FROM trading.holds WHERE state = 'open') AS escrow""")
    return int(row["total"]), int(row["escrow"])


async def fees(fleet: Fleet) -> int:
    """What the platform has taken."""
    (row,) = await fleet.sql("SELECT balance_units FROM trading.accounts WHERE purpose = 'fees'")
    return int(row["balance_units"])


def test_a_claim_is_what_was_earned_of_it_and_the_fee_to_the_unit() -> None:
    for price in range(1, 60):
        for fee in range(price):
            assert parts_of(price, price, fee) == (price - fee, fee)
            for claim in range(1, price + 1):
                due, part = parts_of(claim, price, fee)
                assert due + part == claim and 0 < due <= price - fee and 0 <= part <= fee


async def test_the_operator_divides_what_was_set_aside_and_both_sides_see_the_same(fleet: Fleet) -> None:
    sale, booking = await over(fleet)
    statement = (await sale.buyer.get(f"{BOOKINGS}/{booking['id']}/statement")).json()
    assert "disputed within 72 hours" in statement["refund_rule"] and statement["dispute_until"] > booking["ended_at"]
    earned = (await sale.purse(sale.owner))[0]
    paid, taken = Decimal(booking["paid"]), await fees(fleet)
    dispute = await begun(sale.buyer, booking["id"])
    assert (dispute["claim"], Decimal(dispute["held"])) == (booking["paid"], earned)
    assert await sale.purse(sale.owner) == (Decimal(0), earned)
    path = f"{DISPUTES}/{dispute['id']}"
    for who, text in ((sale.owner, "It was not."), (sale.buyer, "It was.")):
        said = await who.post(f"{path}/evidence", {"text": text}, once=uuid.uuid4().hex)
        assert said.status_code == 200, said.text
    assert (await sale.owner.get(path)).json() == (await sale.buyer.get(path)).json()
    assert [one["text"] for one in (await sale.owner.get(path)).json()["evidence"]] == ["It was not.", "It was."]
    assert (await sale.owner.get(DISPUTES)).json()["data"][0]["id"] == dispute["id"]
    stranger = await fleet.owner()
    assert (await stranger.get(path)).status_code == 404
    assert (await sale.owner.post(f"{path}/decision", {"share_basis_points": 0, "reason": "x"})).status_code == 403
    before = (await sale.purse(sale.buyer))[0]
    answer = (await decided(fleet, dispute, 5_000)).json()
    assert (answer["state"], answer["decided_by"], answer["share_basis_points"]) == ("closed", "operator", 5_000)
    back = Decimal(answer["refunded"])
    assert abs(back - paid / 2) <= Decimal("0.00000002")
    assert (await sale.purse(sale.buyer))[0] - before == back
    fee_back = taken - await fees(fleet)
    assert await sale.purse(sale.owner) == (earned - back + Decimal(money.render(fee_back)), Decimal(0))
    transaction = (await sale.buyer.get(f"/api/v1/trading/transactions/{answer['transaction']}")).json()
    assert (transaction["kind"], transaction["reference"]) == ("refund", dispute["id"])
    again = await decided(fleet, dispute, 0)
    assert (again.status_code, again.json()["code"]) == (409, "market_dispute_not_open")
    assert (await disputed(sale.buyer, booking["id"])).json()["code"] == "market_disputed"
    assert await everything(fleet) == (0, 0)


async def test_an_owner_concedes_a_job_and_the_payer_has_all_of_it_back(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    where: dict[str, Any] = {"region": uuid.uuid4().hex}
    rig = await fleet.rig(owner, **where)
    receipt = await receipt_of(fleet, buyer, rig, where)
    price = (await buyer.get(f"/api/v1/trading/receipts/{receipt}")).json()["receipt"]["price"]
    assert (await disputed(owner, receipt)).json()["code"] == "disputed_payment_not_found"
    too_much = await disputed(buyer, receipt, amount="1")
    assert (too_much.status_code, too_much.json()["code"]) == (409, "not_disputable")
    dispute = await begun(buyer, receipt)
    path = f"{DISPUTES}/{dispute['id']}"
    assert (await buyer.post(f"{path}/concede")).status_code == 404
    for _ in range(2):
        conceded = (await owner.post(f"{path}/concede")).json()
        assert (conceded["decided_by"], conceded["refunded"]) == ("owner", price)
    assert (await fleet.stage.service("trading").balance(buyer.principal.account)).available_units == 10**8
    assert await everything(fleet) == (0, 0)


async def test_a_payer_withdraws_and_the_owner_has_everything_again(fleet: Fleet) -> None:
    sale, booking = await over(fleet, 90)
    earned = await sale.purse(sale.owner)
    dispute = await begun(sale.buyer, booking["id"], amount="0.05")
    path = f"{DISPUTES}/{dispute['id']}"
    assert (await sale.owner.post(f"{path}/withdraw")).status_code == 404
    for _ in range(2):
        withdrawn = (await sale.buyer.post(f"{path}/withdraw")).json()
        assert (withdrawn["state"], withdrawn["decided_by"], withdrawn["refunded"]) == ("closed", "payer", "0")
    assert await sale.purse(sale.owner) == earned
    late = await sale.buyer.post(f"{path}/evidence", {"text": "But."}, once=uuid.uuid4().hex)
    assert late.json()["code"] == "market_dispute_not_open"


@pytest.mark.parametrize("speaks", [True, False])
async def test_time_gives_half_back_and_all_where_the_owner_is_silent(fleet: Fleet, *, speaks: bool) -> None:
    sale, booking = await over(fleet, 90)
    dispute = await begun(sale.buyer, booking["id"])
    if speaks:
        await sale.owner.post(f"{DISPUTES}/{dispute['id']}/evidence", {"text": "No."}, once=uuid.uuid4().hex)
    clock.move(timedelta(days=7, seconds=1))
    await fleet.stage.service("trading").expire_holds()  # the money is held for longer
    await market_of(fleet).keep_disputes()
    seen = (await sale.buyer.get(f"{DISPUTES}/{dispute['id']}")).json()
    assert (seen["state"], seen["decided_by"]) == ("closed", "time")
    back, paid = Decimal(seen["refunded"]), Decimal(booking["paid"])
    assert abs(back - paid / 2) <= Decimal("0.00000002") if speaks else back == paid
    assert await everything(fleet) == (0, 0)


async def test_what_an_owner_earns_later_is_set_aside_too_and_no_more_than_there_is_goes_back(fleet: Fleet) -> None:
    sale, booking = await over(fleet, 90)
    account, trading = sale.owner.principal.account, fleet.stage.service("trading")
    (earned, _) = await sale.purse(sale.owner)
    await sale.owner.post("/api/v1/governance/stake/lock", {"amount": str(earned)}, once=uuid.uuid4().hex)
    dispute = await begun(sale.buyer, booking["id"])
    assert dispute["held"] == "0"
    part = money.parse(str(earned)) // 3
    runtime = fleet.stage.runtime
    await trading.deposits.deposit(runtime.operator, account, part, "later", IdempotencyKey.NONE)
    await market_of(fleet).keep_disputes()
    await trading.deposits.deposit(runtime.operator, account, part, "later", IdempotencyKey.NONE)
    await market_of(fleet).keep_disputes()
    path = f"{DISPUTES}/{dispute['id']}"
    assert money.parse((await sale.buyer.get(path)).json()["held"]) == 2 * part
    closed = (await decided(fleet, dispute, 10_000)).json()
    fee = await paid_fee(fleet, booking) * 2 * part // money.parse(str(earned))
    assert money.parse(closed["refunded"]) == 2 * part + fee
    assert await everything(fleet) == (0, 0)


async def paid_fee(fleet: Fleet, booking: dict[str, Any]) -> int:
    """The platform's part of what a booking cost."""
    found = await fleet.sql(
        "SELECT sum(fee_units)::bigint AS fee FROM marketplace.booking_slices WHERE booking = $1",
        ids.decode("book", booking["id"]),
    )
    return int(found[0]["fee"])


async def test_what_cannot_be_disputed_is_refused_and_leaves_nothing_behind(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    booking = await sale.book()
    running = await disputed(sale.buyer, booking["id"])
    await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")
    mine = await for_sale(fleet)
    mine.buyer = mine.owner
    await fund(fleet, mine.owner)
    own = await mine.book()
    await mine.pass_time(60)
    await mine.buyer.post(f"{BOOKINGS}/{own['id']}/end")
    late_sale, late = await over(fleet, 60)
    clock.move(timedelta(hours=72, seconds=1))
    refused = {
        "running": (running, 409, "not_disputable"),
        "own": (await disputed(mine.owner, own["id"]), 409, "not_disputable"),
        "late": (await disputed(late_sale.buyer, late["id"]), 409, "not_disputable"),
        "other": (await disputed(late_sale.owner, late["id"]), 404, "disputed_payment_not_found"),
        "unknown": (await disputed(sale.buyer, ids.new_id("rcpt")), 404, "disputed_payment_not_found"),
        "no amount": (await disputed(sale.buyer, late["id"], amount="0"), 422, "invalid_amount"),
        "no reason": (await disputed(sale.buyer, late["id"], reason=""), 422, "invalid"),
    }
    for name, (answer, status, code) in refused.items():
        assert (answer.status_code, answer.json()["code"]) == (status, code), (name, answer.text)
    assert (await sale.buyer.get(f"{DISPUTES}/{STRANGE}")).status_code == 404
    assert (await sale.buyer.get(DISPUTES)).json()["data"] == []


async def fund(fleet: Fleet, who: Caller) -> None:
    """Give somebody money."""
    trading, operator = fleet.stage.service("trading"), fleet.stage.runtime.operator
    await trading.deposits.deposit(operator, who.principal.account, 10 * 10**8, "a gift", IdempotencyKey.NONE)


async def test_the_booking_of_a_listed_gpu_is_rated_and_disputed_like_one_of_an_offer(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner, devices=[gpu_device()], kinds=["embed"], device="gpu")
    listing = {"model": "NVIDIA GeForce RTX 4090", "price_per_hour": "3.6", "miner": rig.id}
    gpu = (await owner.post("/api/v1/gpu/listings", listing)).json()["id"]
    wish = {"gpu": gpu, "duration_seconds": 600, "max_price": "1"}
    booking = (await buyer.post("/api/v1/gpu/bookings", wish, once=uuid.uuid4().hex)).json()
    path = f"/api/v1/gpu/bookings/{booking['id']}"
    assert (await disputed(buyer, booking["id"])).json()["code"] == "disputed_payment_not_found"  # not over
    for _ in range(4):
        clock.move(timedelta(seconds=29))
        await rig.heartbeat()
    await buyer.post(f"{path}/release")
    over = (await buyer.get(path)).json()
    assert (await owner.get(path)).json() == over and over["dispute_until"] > over["ended_at"]
    paid, fee = Decimal(over["cost"]), Decimal(over["fee"])
    stars = {"subject": booking["id"], "stars": 2}
    for _ in range(2):
        assert (await buyer.post(f"{MARKET}/ratings", stars)).json()["miner"] == rig.id
    assert (await buyer.post(f"{MARKET}/ratings", stars | {"stars": 3})).json()["code"] == "rating_given"
    assert (await disputed(owner, booking["id"])).json()["code"] == "disputed_payment_not_found"
    assert (await disputed(buyer, booking["id"], amount=str(paid * 2))).json()["code"] == "not_disputable"
    dispute = await begun(buyer, booking["id"])
    assert (Decimal(dispute["claim"]), Decimal(dispute["held"])) == (paid, paid - fee)
    closed = (await owner.post(f"{DISPUTES}/{dispute['id']}/concede")).json()
    assert (closed["state"], Decimal(closed["refunded"])) == ("closed", paid)
    assert (await fleet.stage.service("trading").balance(buyer.principal.account)).available_units == 10**9
    await audited(fleet)
    assert await everything(fleet) == (0, 0)

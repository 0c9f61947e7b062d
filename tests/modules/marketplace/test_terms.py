"""With whom accounts deal: claims, quotes and bookings honour it, from then on, on both sides."""

import itertools
import uuid
from typing import Any

import pytest

from aitbc.kernel.primitives import ids
from aitbc.modules.ai.models.terms import admits, terms_text
from tests.app import Caller
from tests.eventually import eventually
from tests.modules.gpu.make import Fleet, Rig, gpu_device
from tests.modules.marketplace.make import MARKET, made

pytestmark = pytest.mark.anyio
TERMS = f"{MARKET}/terms"


def test_a_list_denies_those_who_are_named_or_admits_nobody_else() -> None:
    one, other = ids.new_id("acct"), ids.new_id("acct")
    for mode, named in itertools.product(("deny", "allow"), ([], [one], [one, other])):
        text = terms_text(mode, named)
        for account in (one, other):
            assert admits(text, account) == ((mode == "allow") == (account in named)), (mode, named)


async def deals(fleet: Fleet, who: Caller, **lists: Any) -> dict[str, Any]:
    """Terms that are set, and that claims know."""
    answer = await who.client.put(TERMS, json=lists)
    assert answer.status_code == 200, answer.text
    account = ids.decode("acct", who.principal.account)

    async def is_known() -> bool:
        query = "SELECT version FROM {}.terms WHERE account = $1"
        told = [await fleet.sql(query.format(module), account) for module in ("marketplace", "ai")]
        return bool(told[1]) and told[0][0]["version"] == told[1][0]["version"]

    await eventually(is_known)
    return dict(answer.json())


def named(mode: str, *who: Caller) -> dict[str, Any]:
    """A list."""
    return {"mode": mode, "accounts": [one.principal.account for one in who]}


async def taken(rig: Rig) -> list[str]:
    """The jobs that a miner gets, and does."""
    leases = (await rig.poll(slots=4))["leases"]
    for lease in leases:
        assert (await rig.deliver(lease)).status_code == 200
    return [lease["job"] for lease in leases]


async def test_a_claim_passes_over_those_with_whom_an_owner_or_a_payer_does_not_deal(fleet: Fleet) -> None:
    owner, other = await fleet.owner(funds="1"), await fleet.owner()
    good, bad = await fleet.owner(funds="1"), await fleet.owner(funds="1")
    where: dict[str, Any] = {"region": uuid.uuid4().hex}
    rig, second = await fleet.rig(owner, **where), await fleet.rig(other, **where)
    await deals(fleet, owner, buyers=named("deny", bad))
    denied = await fleet.submit(bad, requirements=where)
    wanted = await fleet.submit(good, requirements=where)
    assert await taken(rig) == [wanted["id"]]  # not blocked by the one before
    assert await taken(second) == [denied["id"]]
    await deals(fleet, owner, buyers=named("allow", good))
    mine, theirs = (
        await fleet.submit(owner, requirements=where),
        await fleet.submit(bad, requirements=where),
    )
    assert await taken(rig) == [mine["id"]]  # one's own always
    await deals(fleet, owner)
    assert await taken(rig) == [theirs["id"]]
    await deals(fleet, good, owners=named("deny", owner))
    job = await fleet.submit(good, requirements=where)
    assert await taken(rig) == []
    await deals(fleet, good, owners=named("allow", owner))
    assert await taken(second) == []
    assert await taken(rig) == [job["id"]]


async def test_quotes_list_the_offers_of_those_who_deal_with_the_asker(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    where: dict[str, Any] = {"region": uuid.uuid4().hex}
    rig = await fleet.rig(owner, **where)
    offer = await made(owner, miner=rig.id, sells="work", kind="embed", price="0.0000001")
    job = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05", "requirements": where, "prefer": "cheapest"}

    async def listed() -> tuple[list[str], list[str]]:
        quote = (await buyer.post("/api/v1/ai/quotes", job)).json()
        return [one["offer"] for one in quote["offers"]], quote["kept_for"]

    async def is_listed() -> bool:
        return await listed() == ([offer["id"]], [rig.id])

    await eventually(is_listed)
    for who, lists in ((owner, {"buyers": named("deny", buyer)}), (buyer, {"owners": named("allow")})):
        await deals(fleet, who, **lists)
        assert await listed() == ([], [])
        await deals(fleet, who)
        assert await is_listed()


async def test_a_booking_needs_both_sides_and_terms_are_ones_own(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="5")
    rig = await fleet.rig(owner, devices=[gpu_device()], kinds=["embed"], device="gpu")
    offer = await made(owner, miner=rig.id, sells="device", device=0, price="1")
    wish = {"offer": offer["id"], "duration_seconds": 600, "max_price": "1"}
    for who, lists in (
        (owner, {"buyers": named("deny", buyer)}),
        (owner, {"buyers": named("allow")}),
        (buyer, {"owners": named("deny", owner)}),
        (buyer, {"owners": named("allow", buyer)}),
    ):
        await deals(fleet, who, **lists)
        for path in ("bookings", "booking-quotes"):
            refused = await buyer.post(f"{MARKET}/{path}", wish, once=uuid.uuid4().hex)
            assert (refused.status_code, refused.json()["code"]) == (403, "market_not_admitted"), lists
        await deals(fleet, who)
    first = await deals(fleet, buyer, owners=named("allow", owner, owner))
    assert first["owners"]["accounts"] == [owner.principal.account]
    assert (await buyer.client.put(TERMS, json={"owners": named("allow", owner)})).json() == first  # said before
    assert (await buyer.get(TERMS)).json() == first
    booked = await buyer.post(f"{MARKET}/bookings", wish, once=uuid.uuid4().hex)
    assert booked.status_code == 201, booked.text
    await buyer.post(f"{MARKET}/bookings/{booked.json()['id']}/end")
    wrongs: list[dict[str, Any]] = [{"owners": {"mode": "maybe"}}, {"buyers": {"accounts": ["me"]}}, {"nobody": {}}]
    wrongs.append({"buyers": {"accounts": [f"acct_{'z' * 26}"]}})  # of the right length, and no id
    for wrong in wrongs:
        assert (await buyer.client.put(TERMS, json=wrong)).status_code == 422

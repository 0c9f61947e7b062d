"""The simulator against receipts that were really settled, and against a replay by hand."""

from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import render, share
from aitbc.modules.governance.service.simulator import Replay
from aitbc.modules.trading.api import WorkPaid
from tests.app import TestApp
from tests.modules.governance.make import LOWER, PROPOSALS, member, proposed
from tests.modules.trading.make import a_hold, a_settlement

UNITS = st.integers(min_value=0, max_value=10**6)


def work(units: int, price: int, held: int, *, kind: str = "embed", at_offer: bool = False) -> WorkPaid:
    """A receipt."""
    return WorkPaid(
        sequence=1,
        issued_at=now(),
        payer=f"p{units % 3}",
        miner_account="m",
        kind=kind,
        units=units,
        at_offer=at_offer,
        price_units=price,
        fee_units=share(price, 250),
        fee_basis_points=250,
        held_units=held,
    )


@given(st.lists(st.tuples(UNITS, st.integers(1, 20), st.booleans())), st.integers(0, 2_500), st.integers(0, 40))
def test_a_replay_is_what_one_would_add_up_by_hand(jobs: list[tuple[int, int, bool]], fee: int, price: int) -> None:
    receipts = [work(units, max(units * 10, 1), units * most + 10, at_offer=offer) for units, most, offer in jobs]
    replay = Replay({"trading.fee_basis_points": fee, "ai.unit_price.embed": price})
    for one in receipts:
        replay.add(one)
    prices = [one.price_units if one.at_offer else max(one.units * price, 1) for one in receipts]
    pairs = list(zip(receipts, prices, strict=True))
    kept = [cost for one, cost in pairs if cost <= one.held_units]
    assert replay.before == [sum(one.price_units for one in receipts), sum(one.fee_units for one in receipts)]
    assert replay.after == [sum(kept), sum(share(cost, fee) for cost in kept)]
    assert replay.priced_out == len(receipts) - len(kept)
    assert replay.fill_basis_points == (len(kept) * 10_000 // len(receipts) if receipts else 10_000)
    assert replay.payers == {one.payer for one, cost in pairs if cost > one.held_units}


async def test_settled_work_is_replayed_under_the_proposed_fee(stage: TestApp) -> None:
    alice, buyer, seller = await member(stage), await stage.who("buyer", funds="10"), await stage.who("seller")
    trading = stage.service("trading")
    payer, owner = buyer.principal.account, seller.principal.account
    for price in (3_333_333, 10_000_000):
        hold = a_hold(payer, price)
        await trading.hold(hold)
        await trading.settle(a_settlement(hold, price, miner_account=owner))
    await trading.seal()
    proposal = await proposed(alice, class_="parameters", actions=[LOWER])
    found = (await alice.get(f"{PROPOSALS}/{proposal['id']}/simulation", days=1)).json()
    fees = share(3_333_333, 200) + share(10_000_000, 200)
    assert (found["receipts"], found["is_complete"], found["priced_out_jobs"]) == (2, True, 0)
    assert found["before"]["paid"] == found["after"]["paid"] == render(13_333_333)
    assert found["after"]["fees"] == render(fees)
    assert (found["after"]["miners"], found["fill_basis_points"]) == (render(13_333_333 - fees), 10_000)
    assert (await alice.get(f"{PROPOSALS}/{proposal['id']}/simulation", days=0)).status_code == 422

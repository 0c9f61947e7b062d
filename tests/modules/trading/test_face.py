"""What trading promises the other modules: the same tests of the ledger and of the fake that stands in for it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.modules.trading.api import (
    Balance,
    Earnings,
    FeeQuote,
    Hold,
    HoldDiffers,
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PriceAboveHold,
    RaiseHold,
    TradingApi,
)
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.fake import FakeTrading
from tests.modules.trading.make import AITBC, a_hold, a_rent, a_settlement, funded, trading_on


class LedgerUnderTest:
    """A ledger behind its face, and a way to give somebody money."""

    def __init__(self, trading: TradingApi) -> None:
        self.trading = trading

    async def person(self, units: int) -> str:
        """An account with so much available."""
        if not isinstance(self.trading, FakeTrading):
            return await funded(self.trading, units)  # type: ignore[arg-type]
        account = ids.new_id("acct")
        self.trading.fund(account, units)
        return account

    async def purse(self, account: str) -> tuple[int, int]:
        """What is available and what is held."""
        found = await self.trading.balance(account)
        return found.available_units, found.held_units


@pytest.fixture(params=["ledger", "in memory"])
async def bank(request: pytest.FixtureRequest, owner: Target) -> AsyncIterator[LedgerUnderTest]:
    """A ledger without open holds: each of the two that keep the promises."""
    if request.param == "in memory":
        yield LedgerUnderTest(FakeTrading())
        return
    async with trading_on(owner) as trading:
        for hold in await trading.open_holds(now() + timedelta(days=1), 1000):
            await trading.void(hold.id, "left by another test")
        yield LedgerUnderTest(trading)


async def test_a_hold_sets_money_aside_and_says_what_it_is_for(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    command = a_hold(payer, 4)
    hold = await bank.trading.hold(command)
    assert (hold.id, hold.payer, hold.amount_units) == (command.hold, payer, 4)
    assert (hold.state, hold.reference, hold.expires_at) == ("open", command.reference, command.expires_at)
    assert abs(hold.placed_at - now()) < timedelta(minutes=1)
    assert await bank.purse(payer) == (6, 4)
    assert await bank.trading.hold(command) == hold
    assert await bank.purse(payer) == (6, 4)


async def test_a_hold_of_the_same_name_and_other_contents_is_refused(bank: LedgerUnderTest) -> None:
    payer, other = await bank.person(10), await bank.person(10)
    command = a_hold(payer, 4)
    await bank.trading.hold(command)
    for changed in (
        replace(command, amount_units=5),
        replace(command, payer=other),
        replace(command, reference=ids.new_id("job")),
    ):
        with pytest.raises(HoldDiffers):
            await bank.trading.hold(changed)
    assert (await bank.purse(payer), await bank.purse(other)) == ((6, 4), (10, 0))


async def test_only_what_is_available_can_be_held(bank: LedgerUnderTest) -> None:
    payer = await bank.person(5)
    await bank.trading.hold(a_hold(payer, 4))
    with pytest.raises(InsufficientFunds) as refusal:
        await bank.trading.hold(a_hold(payer, 2))
    assert refusal.value.details == {"available": "0.00000001", "needed": "0.00000002"}
    with pytest.raises(InsufficientFunds):
        await bank.trading.hold(a_hold(ids.new_id("acct"), 1))
    for amount in (0, -1):
        with pytest.raises(InvalidAmount):
            await bank.trading.hold(a_hold(payer, amount))
    assert await bank.purse(payer) == (1, 4)


@pytest.mark.parametrize("price", [0, 1, 19, 20, 21, 333, 1000])
async def test_a_settlement_splits_the_hold_into_earnings_fee_and_the_rest(bank: LedgerUnderTest, price: int) -> None:
    payer, miner = await bank.person(1000), await bank.person(0)
    command = a_hold(payer, 1000)
    await bank.trading.hold(command)
    quote = await bank.trading.quote_fee(price)
    settled = await bank.trading.settle(a_settlement(command, price, miner_account=miner))
    assert quote == FeeQuote(basis_points=250, fee_units=settled.fee_units)
    assert (settled.price_units, settled.returned_units) == (price, 1000 - price)
    assert settled.earned_units + settled.fee_units == price
    assert await bank.purse(payer) == (1000 - price, 0)
    assert await bank.purse(miner) == (settled.earned_units, 0)
    assert ids.decode("rcpt", settled.receipt) == ids.decode("job", command.reference)
    assert ids.is_id("txn", settled.transaction)


async def test_a_repeated_settlement_is_answered_the_same_and_another_one_is_refused(bank: LedgerUnderTest) -> None:
    payer, miner = await bank.person(10), await bank.person(0)
    command = a_hold(payer, 10)
    await bank.trading.hold(command)
    settlement = a_settlement(command, 4, miner_account=miner)
    settled = await bank.trading.settle(settlement)
    assert await bank.trading.settle(settlement) == settled
    for changed in (
        replace(settlement, price_units=5),
        replace(settlement, attempt=ids.new_id("att")),
        replace(settlement, token=2),
        replace(settlement, output_digest="sha256:" + "0" * 64),
    ):
        with pytest.raises(HoldNotOpen):
            await bank.trading.settle(changed)
    assert await bank.purse(payer) == (6, 0)


async def test_a_settlement_takes_from_the_hold_of_its_own_job_and_no_more_than_that(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    command, elsewhere = a_hold(payer, 4), a_hold(payer, 4)
    await bank.trading.hold(command)
    settlement = a_settlement(command, 4)
    for price in (5, -1):
        with pytest.raises(PriceAboveHold):
            await bank.trading.settle(replace(settlement, price_units=price))
    for changed in (
        replace(settlement, payer=ids.new_id("acct")),
        replace(settlement, job=elsewhere.reference),
    ):
        with pytest.raises(HoldDiffers):
            await bank.trading.settle(changed)
    with pytest.raises(HoldNotFound):
        await bank.trading.settle(a_settlement(elsewhere, 1))
    assert await bank.purse(payer) == (6, 4)


async def test_a_void_returns_all_once(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    command = a_hold(payer, 4)
    await bank.trading.hold(command)
    voided = await bank.trading.void(command.hold, "canceled")
    assert (voided.state, await bank.purse(payer)) == ("voided", (10, 0))
    assert await bank.trading.void(command.hold, "canceled") == voided
    assert await bank.trading.hold(command) == voided
    with pytest.raises(HoldNotOpen):
        await bank.trading.settle(a_settlement(command, 1))
    assert await bank.purse(payer) == (10, 0)
    for unknown in (ids.new_id("hold"), "hold_x", "", "job_1"):
        with pytest.raises(HoldNotFound):
            await bank.trading.void(unknown, "canceled")


async def test_what_is_settled_cannot_be_voided(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    command = a_hold(payer, 4)
    await bank.trading.hold(command)
    await bank.trading.settle(a_settlement(command, 4))
    with pytest.raises(HoldNotOpen):
        await bank.trading.void(command.hold, "canceled")
    assert await bank.purse(payer) == (6, 0)


@pytest.mark.parametrize("price", [0, 1, 19, 20, 21, 333, 1000])
async def test_a_rent_splits_the_hold_into_earnings_fee_and_the_rest(bank: LedgerUnderTest, price: int) -> None:
    payer, owner = await bank.person(1000), await bank.person(0)
    command = a_hold(payer, 1000)
    await bank.trading.hold(command)
    quote = await bank.trading.quote_fee(price)
    rent = await bank.trading.pay_rent(a_rent(command, price, owner=owner))
    assert (rent.price_units, rent.fee_units, rent.returned_units) == (price, quote.fee_units, 1000 - price)
    assert rent.earned_units + rent.fee_units == price
    assert await bank.purse(payer) == (1000 - price, 0)
    assert await bank.purse(owner) == (rent.earned_units, 0)
    assert ids.is_id("txn", rent.transaction)
    with pytest.raises(HoldNotOpen):
        await bank.trading.void(command.hold, "canceled")


async def test_a_repeated_rent_is_answered_the_same_and_another_one_is_refused(bank: LedgerUnderTest) -> None:
    payer, owner = await bank.person(1000), await bank.person(0)
    command = a_hold(payer, 1000)
    await bank.trading.hold(command)
    rent = a_rent(command, 400, owner=owner)
    paid = await bank.trading.pay_rent(rent)
    assert await bank.trading.pay_rent(rent) == paid
    for changed in (replace(rent, price_units=401), replace(rent, owner=ids.new_id("acct"))):
        with pytest.raises(HoldNotOpen):
            await bank.trading.pay_rent(changed)
    with pytest.raises(HoldNotOpen):
        await bank.trading.settle(a_settlement(command, 400))
    assert (await bank.purse(payer), await bank.purse(owner)) == ((600, 0), (paid.earned_units, 0))


async def test_a_rent_takes_from_the_hold_that_it_was_placed_for_and_no_more_than_that(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    command, elsewhere = a_hold(payer, 4), a_hold(payer, 4)
    await bank.trading.hold(command)
    rent = a_rent(command, 4)
    for price in (5, -1):
        with pytest.raises(PriceAboveHold):
            await bank.trading.pay_rent(replace(rent, price_units=price))
    for changed in (replace(rent, payer=ids.new_id("acct")), replace(rent, reference=elsewhere.reference)):
        with pytest.raises(HoldDiffers):
            await bank.trading.pay_rent(changed)
    with pytest.raises(HoldNotFound):
        await bank.trading.pay_rent(a_rent(elsewhere, 1))
    await bank.trading.void(command.hold, "canceled")
    with pytest.raises(HoldNotOpen):
        await bank.trading.pay_rent(rent)
    assert await bank.purse(payer) == (10, 0)


async def test_an_owner_may_rent_from_itself_and_pays_the_fee(bank: LedgerUnderTest) -> None:
    payer = await bank.person(1000)
    command = a_hold(payer, 500)
    await bank.trading.hold(command)
    rent = a_rent(command, 400, owner=payer)
    paid = await bank.trading.pay_rent(rent)
    assert await bank.trading.pay_rent(rent) == paid
    assert await bank.purse(payer) == (1000 - paid.fee_units, 0)


async def test_a_rent_is_paid_after_the_deadline_too(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    command = a_hold(payer, 4, lasts=timedelta(minutes=5))
    await bank.trading.hold(command)
    clock.move(timedelta(minutes=6))
    assert (await bank.trading.pay_rent(a_rent(command, 4))).price_units == 4


async def test_a_payer_may_be_its_own_miner(bank: LedgerUnderTest) -> None:
    payer = await bank.person(1000)
    command = a_hold(payer, 500)
    await bank.trading.hold(command)
    settled = await bank.trading.settle(a_settlement(command, 400, miner_account=payer))
    assert await bank.purse(payer) == (1000 - settled.fee_units, 0)


async def test_accepted_work_is_paid_after_the_deadline_too(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    command = a_hold(payer, 4, lasts=timedelta(minutes=5))
    await bank.trading.hold(command)
    clock.move(timedelta(minutes=6))
    assert (await bank.trading.settle(a_settlement(command, 4))).price_units == 4


async def test_open_holds_are_listed_from_the_oldest_on(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    commands = [a_hold(payer, 1) for _ in range(4)]
    for command in commands:
        await bank.trading.hold(command)
        clock.move(timedelta(seconds=10))
    await bank.trading.void(commands[1].hold, "canceled")
    found = await bank.trading.open_holds(now(), 10)
    assert [hold.id for hold in found] == [commands[index].hold for index in (0, 2, 3)]
    assert [hold.id for hold in await bank.trading.open_holds(now(), 1)] == [commands[0].hold]
    older = await bank.trading.open_holds(now() - timedelta(seconds=15), 10)
    assert [hold.id for hold in older] == [commands[index].hold for index in (0, 2)]


async def test_open_holds_are_listed_page_after_page_though_some_were_placed_at_once(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    commands = [a_hold(payer, 1) for _ in range(5)]
    for number, command in enumerate(commands):
        await bank.trading.hold(command)
        clock.move(timedelta(seconds=10 if number == 1 else 0))
    clock.move(timedelta(seconds=10))
    seen: list[Hold] = []
    while page := await bank.trading.open_holds(now(), 2, (seen[-1].placed_at, seen[-1].id) if seen else None):
        seen += page
    assert {hold.id for hold in seen} == {command.hold for command in commands}
    assert seen == sorted(seen, key=lambda hold: (hold.placed_at, hold.id))
    assert len(seen) == 5


async def test_of_some_holds_those_are_listed_that_are_open(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    commands = [a_hold(payer, 1) for _ in range(4)]
    for command in commands:
        await bank.trading.hold(command)
    await bank.trading.void(commands[0].hold, "canceled")
    await bank.trading.settle(a_settlement(commands[1], 1))
    asked = [*(command.hold for command in commands[:3]), ids.new_id("hold"), "nonsense"]
    (held,) = await bank.trading.still_held(asked)
    assert (held.id, held.amount_units, held.state) == (commands[2].hold, 1, "open")
    assert list(await bank.trading.still_held([])) == []


async def test_whom_the_ledger_has_not_met_has_nothing(bank: LedgerUnderTest) -> None:
    for account in (ids.new_id("acct"), "acct_x", ""):
        assert await bank.trading.balance(account) == Balance(account=account, available_units=0, held_units=0)


async def test_a_miner_earned_what_its_settlements_say(bank: LedgerUnderTest) -> None:
    payer, account = await bank.person(10 * AITBC), await bank.person(0)
    miner, idle = ids.new_id("mnr"), ids.new_id("mnr")
    earned = []
    for price in (AITBC, 3):
        command = a_hold(payer, AITBC)
        await bank.trading.hold(command)
        settled = await bank.trading.settle(a_settlement(command, price, miner_account=account, miner=miner))
        earned.append(settled.earned_units)
        clock.move(timedelta(hours=1))
    nothing = [Earnings(miner=name, jobs=0, earned_units=0) for name in (idle, "nonsense")]
    everything = Earnings(miner=miner, jobs=2, earned_units=sum(earned))
    assert list(await bank.trading.earnings([idle, miner, "nonsense"], None)) == [nothing[0], everything, nothing[1]]
    late = Earnings(miner=miner, jobs=1, earned_units=earned[1])
    assert list(await bank.trading.earnings([miner], now() - timedelta(minutes=90))) == [late]
    assert list(await bank.trading.earnings([], None)) == []


async def test_a_hold_is_prolonged_as_long_as_it_is_open_and_never_shortened(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    commands = [a_hold(payer, 1, lasts=timedelta(hours=1)) for _ in range(3)]
    for command in commands:
        await bank.trading.hold(command)
    await bank.trading.void(commands[0].hold, "canceled")
    asked = [*(command.hold for command in commands[:2]), ids.new_id("hold"), "nonsense"]
    until = now() + timedelta(days=1)
    for wanted in (until, now(), until):
        assert list(await bank.trading.prolong(asked, wanted)) == [commands[1].hold]
    found = {hold.id: hold.expires_at for hold in await bank.trading.still_held([one.hold for one in commands])}
    assert found == {commands[1].hold: until, commands[2].hold: commands[2].expires_at}
    assert list(await bank.trading.prolong([], until)) == []


async def test_a_hold_is_raised_as_long_as_it_is_open_and_never_lowered(bank: LedgerUnderTest) -> None:
    payer, stranger = await bank.person(10 * AITBC), await bank.person(10 * AITBC)
    command = a_hold(payer, 2 * AITBC)
    await bank.trading.hold(command)
    for wanted, held in ((5 * AITBC, 5 * AITBC), (5 * AITBC, 5 * AITBC), (1, 5 * AITBC), (7 * AITBC, 7 * AITBC)):
        found = await bank.trading.raise_hold(RaiseHold(hold=command.hold, payer=payer, amount_units=wanted))
        assert (found.amount_units, found.state, found.expires_at) == (held, "open", command.expires_at)
        balance = await bank.trading.balance(payer)
        assert (balance.available_units, balance.held_units) == (10 * AITBC - held, held)
    for refused, raising in (
        (InsufficientFunds, RaiseHold(hold=command.hold, payer=payer, amount_units=11 * AITBC)),
        (HoldDiffers, RaiseHold(hold=command.hold, payer=stranger, amount_units=8 * AITBC)),
        (HoldNotFound, RaiseHold(hold=ids.new_id("hold"), payer=payer, amount_units=8 * AITBC)),
        (HoldNotFound, RaiseHold(hold="nonsense", payer=payer, amount_units=8 * AITBC)),
    ):
        with pytest.raises(refused):
            await bank.trading.raise_hold(raising)
    account = await bank.person(0)
    settled = await bank.trading.settle(a_settlement(command, 6 * AITBC, miner_account=account))
    assert (settled.price_units, settled.returned_units) == (6 * AITBC, AITBC)
    with pytest.raises(HoldNotOpen):
        await bank.trading.raise_hold(RaiseHold(hold=command.hold, payer=payer, amount_units=9 * AITBC))
    kept = a_hold(payer, AITBC)
    await bank.trading.hold(kept)
    await bank.trading.raise_hold(RaiseHold(hold=kept.hold, payer=payer, amount_units=2 * AITBC))
    if isinstance(bank.trading, TradingService):
        await bank.trading.seal()
        report = await bank.trading.ledger.verify()
        assert report.ok, report.divergence


async def test_of_some_jobs_those_are_named_that_have_a_receipt(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10)
    commands = [a_hold(payer, 1) for _ in range(3)]
    for command in commands:
        await bank.trading.hold(command)
    await bank.trading.settle(a_settlement(commands[0], 1))
    await bank.trading.pay_rent(a_rent(commands[1], 1))
    asked = [*(command.reference for command in commands), ids.new_id("job"), "nonsense"]
    assert list(await bank.trading.receipted(asked)) == [commands[0].reference]


async def test_receipts_are_told_by_their_numbers_in_the_chain(bank: LedgerUnderTest) -> None:
    payer = await bank.person(10 * AITBC)
    if isinstance(bank.trading, TradingService):
        await bank.trading.seal()
    before = [one.sequence for one in await bank.trading.sealed_receipts(0, 10_000)]
    last = before[-1] if before else 0
    settlements = []
    for price in (AITBC, 3):
        command = a_hold(payer, AITBC)
        await bank.trading.hold(command)
        settlements.append(await bank.trading.settle(a_settlement(command, price)))
    if isinstance(bank.trading, TradingService):
        await bank.trading.seal()
    first, second = await bank.trading.sealed_receipts(last, 10)
    assert last < first.sequence < second.sequence
    for told, settled in zip((first, second), settlements, strict=True):
        assert (told.payer, told.price_units, told.fee_units) == (payer, settled.price_units, settled.fee_units)
        assert told.earned_units == settled.earned_units
    assert list(await bank.trading.sealed_receipts(last, 1)) == [first]
    assert list(await bank.trading.sealed_receipts(second.sequence, 10)) == []

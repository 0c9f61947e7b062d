"""What the service of trading does: holds and what ends them, fees, deposits, the faucet, corrections."""

import asyncio
from datetime import timedelta

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.migrations import Part, differences
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.events.relay import BACKOFF_SECONDS_MAX
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.modules.trading.api import (
    HoldDiffers,
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PriceAboveHold,
)
from aitbc.modules.trading.models.tables import Base
from aitbc.modules.trading.service import TradingSettings
from aitbc.modules.trading.service.deposits import FaucetEmpty, FaucetOff, NotCorrectable
from tests.modules.trading.make import (
    ADMIN,
    AITBC,
    a_hold,
    a_settlement,
    funded,
    once,
    person,
    require_sound,
    sql,
    trading_on,
)
from tests.scale import scaled


async def test_models_and_migrations_agree(owner: Target) -> None:
    assert await differences(owner, [Part("trading", Base.metadata)]) == []


async def test_a_hold_moves_money_from_available_to_held(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 10)
        placed = await trading.hold(a_hold(payer, 4))
        assert placed.state == "open"
        balance = await trading.balance(payer)
        assert (balance.available_units, balance.held_units) == (6, 4)
        await require_sound(trading)


async def test_holds_that_are_placed_and_ended_in_one_flush_end_as_if_they_had_waited(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer, miner = await funded(trading, 10 * AITBC), await funded(trading, 0)
        voided, settled, open_ = (a_hold(payer, 2 * AITBC) for _ in range(3))
        *_, paid = await asyncio.gather(
            trading.hold(voided),
            trading.hold(settled),
            trading.hold(open_),
            trading.void(voided.hold, "on second thoughts"),
            trading.settle(a_settlement(settled, AITBC, miner_account=miner)),
        )
        assert paid.returned_units == AITBC
        balance = await trading.balance(payer)
        assert (balance.available_units, balance.held_units) == (7 * AITBC, 2 * AITBC)
        async with sql(owner) as connection:
            rows = await connection.fetch(
                "SELECT state, ended_by IS NULL AS is_open FROM trading.holds WHERE payer = $1 ORDER BY state",
                ids.decode("acct", payer),
            )
        assert [tuple(row) for row in rows] == [("open", True), ("settled", False), ("voided", False)]
        await require_sound(trading)


async def test_a_settlement_pays_miner_and_fee_and_returns_the_rest(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer, miner = await funded(trading, 10 * AITBC), await funded(trading, 0)
        hold = a_hold(payer, 5 * AITBC)
        await trading.hold(hold)
        settled = await trading.settle(a_settlement(hold, 4 * AITBC, miner_account=miner))
        assert settled.price_units == 4 * AITBC
        assert settled.fee_units == AITBC // 10
        assert settled.earned_units == 4 * AITBC - AITBC // 10
        assert settled.returned_units == AITBC
        assert (await trading.balance(payer)).available_units == 6 * AITBC
        assert (await trading.balance(payer)).held_units == 0
        assert (await trading.balance(miner)).available_units == settled.earned_units
        assert ids.decode("rcpt", settled.receipt) == ids.decode("job", hold.reference)
        await require_sound(trading)


@pytest.mark.parametrize("price", [0, 1, 5])
async def test_any_price_up_to_the_hold_settles(owner: Target, price: int) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 5)
        hold = a_hold(payer, 5)
        await trading.hold(hold)
        settled = await trading.settle(a_settlement(hold, price))
        assert (settled.price_units, settled.returned_units) == (price, 5 - price)
        assert (await trading.explorer.receipt(settled.receipt)).receipt.price == (
            "0" if not price else f"0.0000000{price}"
        )
        await require_sound(trading)


async def test_a_payer_may_work_for_itself_without_a_fee(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 1000)
        hold = a_hold(payer, 500)
        await trading.hold(hold)
        settled = await trading.settle(a_settlement(hold, 400, miner_account=payer))
        assert (settled.fee_units, settled.earned_units) == (0, 400)
        assert (await trading.balance(payer)).available_units == 1000
        assert await trading.settle(a_settlement(hold, 400, miner_account=payer)) == settled
        await require_sound(trading)


async def test_a_price_above_the_hold_is_refused(owner: Target) -> None:
    async with trading_on(owner) as trading:
        hold = a_hold(await funded(trading, 5), 5)
        await trading.hold(hold)
        for price in (6, -1):
            with pytest.raises(PriceAboveHold):
                await trading.settle(a_settlement(hold, price))
        await require_sound(trading)


async def test_what_is_not_covered_is_refused(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 5)
        with pytest.raises(InsufficientFunds) as refusal:
            await trading.hold(a_hold(payer, 6))
        assert refusal.value.details == {"available": "0.00000005", "needed": "0.00000006"}
        with pytest.raises(InsufficientFunds):
            await trading.hold(a_hold(ids.new_id("acct"), 1))
        with pytest.raises(InvalidAmount):
            await trading.hold(a_hold(payer, 0))
        await require_sound(trading)


async def test_repeating_a_command_changes_nothing(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 10)
        first, second = a_hold(payer, 5), a_hold(payer, 2)
        assert await trading.hold(first) == await trading.hold(first)
        settlement = a_settlement(first, 3)
        assert await trading.settle(settlement) == await trading.settle(settlement)
        await trading.hold(second)
        assert (await trading.void(second.hold, "canceled")).state == "voided"
        assert (await trading.void(second.hold, "canceled")).state == "voided"
        assert (await trading.hold(second)).state == "voided"
        assert (await trading.balance(payer)).available_units == 7
        rest = a_hold(payer, 7)
        assert await trading.hold(rest) == await trading.hold(rest)  # though nothing is left that it could hold
        assert (await trading.balance(payer)).available_units == 0
        await require_sound(trading)


async def test_a_hold_ends_once(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 10)
        settled, voided = a_hold(payer, 2), a_hold(payer, 3)
        await trading.hold(settled)
        await trading.hold(voided)
        await trading.settle(a_settlement(settled, 1))
        await trading.void(voided.hold, "canceled")
        with pytest.raises(HoldNotOpen):
            await trading.void(settled.hold, "canceled")
        with pytest.raises(HoldNotOpen):
            await trading.settle(a_settlement(voided, 1))
        with pytest.raises(HoldNotOpen):
            await trading.settle(a_settlement(settled, 2))
        await require_sound(trading)


async def test_holds_that_differ_or_are_unknown_are_told_apart(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 10)
        hold = a_hold(payer, 2)
        await trading.hold(hold)
        with pytest.raises(HoldDiffers):
            await trading.hold(a_hold(payer, 3, job=hold.reference))
        unknown = a_hold(payer, 3)
        with pytest.raises(HoldNotFound):
            await trading.settle(a_settlement(unknown, 1))
        for name in (unknown.hold, "hold_x", "", "job_1"):
            with pytest.raises(HoldNotFound):
                await trading.void(name, "canceled")
        other = a_settlement(a_hold(await funded(trading, 1), 2, job=hold.reference), 1)
        with pytest.raises(HoldDiffers):
            await trading.settle(other)
        await require_sound(trading)


async def test_two_hundred_parallel_holds_on_money_for_ten_admit_ten(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 10)
        holds = [trading.hold(a_hold(payer, 1)) for _ in range(200)]
        outcomes = await asyncio.gather(*holds, return_exceptions=True)
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 10
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert {type(refusal) for refusal in refused} == {InsufficientFunds}
        assert (await trading.balance(payer)).available_units == 0
        await require_sound(trading)


async def test_money_crosses_between_many_accounts_without_a_deadlock(owner: Target) -> None:
    async with trading_on(owner) as trading:
        accounts = [await funded(trading, 100) for _ in range(4)]

        async def pay(number: int) -> None:
            payer, miner = accounts[number % 4], accounts[(number * 3 + 1) % 4]
            hold = a_hold(payer, 2)
            await trading.hold(hold)
            if number % 5:
                await trading.settle(a_settlement(hold, 1 + number % 2, miner_account=miner))
            else:
                await trading.void(hold.hold, "canceled")

        for start in range(0, scaled(10, 40) * 8, 8):
            await asyncio.gather(*(pay(number) for number in range(start, start + 8)))
        await require_sound(trading)


async def test_holds_past_their_deadline_return_and_it_is_published(empty: Target) -> None:
    async with trading_on(empty) as trading:
        payer = await funded(trading, 10)
        early, late = a_hold(payer, 3, lasts=timedelta(minutes=5)), a_hold(payer, 4, lasts=timedelta(hours=5))
        await trading.hold(early)
        await trading.hold(late)
        clock.move(timedelta(minutes=6))
        await trading.expire_holds()
        await trading.expire_holds()
        assert (await trading.balance(payer)).available_units == 6
        with pytest.raises(HoldNotOpen):
            await trading.settle(a_settlement(early, 1))
        assert (await trading.void(early.hold, "late")).state == "expired"
        async with sql(empty) as connection:
            published = await connection.fetch("SELECT kind, body FROM trading.outbox")
        assert [row["kind"] for row in published] == ["trading.hold_expired"]
        assert early.hold in published[0]["body"]
        await require_sound(trading)


async def test_the_fee_of_a_hold_is_the_one_it_was_placed_at(empty: Target) -> None:
    async with trading_on(empty) as trading:
        payer = await funded(trading, 10 * AITBC)
        hold = a_hold(payer, AITBC)
        await trading.hold(hold)
    async with trading_on(empty, fee_basis_points=1000) as dearer:
        assert (await dearer.quote_fee(AITBC)).basis_points == 1000
        assert (await dearer.settle(a_settlement(hold, AITBC))).fee_units == AITBC // 40
        after = a_hold(payer, AITBC)
        await dearer.hold(after)
        assert (await dearer.settle(a_settlement(after, AITBC))).fee_units == AITBC // 10
        assert [rate.basis_points for rate in await dearer.fees.rates()] == [250, 1000]
        await require_sound(dearer)


async def test_a_planned_fee_holds_from_its_day_on(empty: Target) -> None:
    async with trading_on(empty):
        pass
    tomorrow = now() + timedelta(days=1)
    async with trading_on(empty, fee_basis_points=500, fee_effective_from=tomorrow) as trading:
        assert await trading.fees.in_force() == 250
        clock.move(timedelta(days=1, seconds=1))
        assert await trading.fees.in_force() == 500


async def test_a_deposit_is_made_once_and_audited(empty: Target) -> None:
    async with trading_on(empty) as trading:
        account, key = ids.new_id("acct"), once()
        first = await trading.deposits.deposit(ADMIN, account, 5 * AITBC, "welcome", key)
        again = await trading.deposits.deposit(ADMIN, account, 5 * AITBC, "welcome", key)
        assert first == again and key.replayed
        assert (await trading.balance(account)).available_units == 5 * AITBC
        async with sql(empty) as connection:
            (noted,) = await connection.fetch("SELECT account, action, object FROM trading.audit")
        assert tuple(noted) == (ADMIN.account, "deposit", account)
        await require_sound(trading)


async def test_fifty_twins_of_a_deposit_have_one_effect(owner: Target) -> None:
    async with trading_on(owner) as trading:
        account, key = ids.new_id("acct"), once()
        copies = [IdempotencyKey(key.account, key.key, key.fingerprint) for _ in range(50)]
        deposits = [trading.deposits.deposit(ADMIN, account, 7, None, copy) for copy in copies]
        outcomes = await asyncio.gather(*deposits, return_exceptions=True)
        assert len({outcome.id for outcome in outcomes if not isinstance(outcome, BaseException)}) == 1
        assert (await trading.balance(account)).available_units == 7
        await require_sound(trading)


async def test_the_faucet_gives_a_daily_share_where_it_is_on(owner: Target) -> None:
    who = person()
    async with trading_on(owner) as closed:
        with pytest.raises(FaucetOff):
            await closed.deposits.faucet(who, 1, IdempotencyKey.NONE)
    async with trading_on(owner, faucet=True, faucet_units_per_day=10) as trading:
        with pytest.raises(FaucetEmpty):
            await trading.deposits.faucet(who, 11, IdempotencyKey.NONE)
        takes = [trading.deposits.faucet(who, 3, IdempotencyKey.NONE) for _ in range(6)]
        outcomes = await asyncio.gather(*takes, return_exceptions=True)
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 3
        clock.move(timedelta(days=1))
        await trading.deposits.faucet(who, 10, IdempotencyKey.NONE)
        assert (await trading.balance(who.account)).available_units == 19
        await require_sound(trading)


async def test_a_correction_reverses_once(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer, miner = await funded(trading, 0), await funded(trading, 0)
        deposit = await trading.deposits.deposit(ADMIN, payer, 1000, None, IdempotencyKey.NONE)
        hold = a_hold(payer, 500)
        await trading.hold(hold)
        settled = await trading.settle(a_settlement(hold, 400, miner_account=miner))
        with pytest.raises(InsufficientFunds):
            await trading.deposits.correct(ADMIN, deposit.id, "typo", IdempotencyKey.NONE)
        first = await trading.deposits.correct(ADMIN, settled.transaction, "bad work", IdempotencyKey.NONE)
        again = await trading.deposits.correct(ADMIN, settled.transaction, "bad work", IdempotencyKey.NONE)
        assert first == again
        assert (await trading.balance(miner)).available_units == 0
        await trading.deposits.correct(ADMIN, deposit.id, "typo", IdempotencyKey.NONE)
        assert (await trading.balance(payer)).available_units == 0
        with pytest.raises(NotCorrectable):
            await trading.deposits.correct(ADMIN, first.id, "again", IdempotencyKey.NONE)
        await require_sound(trading)


async def test_earned_and_spent_balance_over_all_addresses(empty: Target) -> None:
    async with trading_on(empty) as trading:
        payer, miner = await funded(trading, 10_000), await funded(trading, 0)
        mnr = ids.new_id("mnr")
        for price in (100, 333, 1):
            hold = a_hold(payer, 400)
            await trading.hold(hold)
            await trading.settle(a_settlement(hold, price, miner_account=miner, miner=mnr))
        async with sql(empty) as connection:
            ((earned, spent),) = await connection.fetch(
                "SELECT sum(earned_units), sum(spent_units) FROM trading.accounts"
            )
        assert earned == spent == 434
        (earnings,) = await trading.earnings([mnr], None)
        assert (earnings.jobs, earnings.earned_units) == (3, (await trading.balance(miner)).available_units)
        assert (await trading.earnings([mnr, "nonsense"], now() + timedelta(hours=1)))[0].jobs == 0


async def test_open_holds_are_listed_oldest_first(empty: Target) -> None:
    async with trading_on(empty) as trading:
        payer = await funded(trading, 10)
        holds = [a_hold(payer, 1) for _ in range(3)]
        for hold in holds:
            await trading.hold(hold)
        await trading.void(holds[1].hold, "canceled")
        found = await trading.open_holds(now() + timedelta(seconds=1), 10)
        assert [hold.id for hold in found] == [holds[0].hold, holds[2].hold]
        assert list(await trading.open_holds(now() - timedelta(hours=1), 10)) == []


async def test_holds_that_ran_out_wait_for_those_who_need_them_after_a_start_and_a_jump_of_the_clock(
    owner: Target,
) -> None:
    async with trading_on(owner, hold_grace_seconds=0.3) as trading:
        payer = await funded(trading, 100)
        needed, forgotten = a_hold(payer, 10), a_hold(payer, 10)
        for hold in (needed, forgotten):
            await trading.hold(hold)
        clock.move(timedelta(days=2))
        await trading.expire_holds()  # the first round of this process
        assert (await trading.balance(payer)).held_units == 20
        assert list(await trading.prolong([needed.hold], now() + timedelta(hours=1))) == [needed.hold]
        await asyncio.sleep(0.35)
        await trading.expire_holds()
        assert (await trading.balance(payer)).held_units == 10
        clock.move(timedelta(hours=2))
        await trading.expire_holds()  # nobody could know that the clock would jump
        assert (await trading.balance(payer)).held_units == 10
        await asyncio.sleep(0.35)
        await trading.expire_holds()
        assert (await trading.balance(payer)).held_units == 0
        await require_sound(trading)


def test_the_grace_of_holds_is_longer_than_an_event_waits_for_its_next_attempt() -> None:
    assert TradingSettings().hold_grace_seconds > BACKOFF_SECONDS_MAX + 60

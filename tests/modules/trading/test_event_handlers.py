"""The events of ai settle or return money once, whether the direct call went first, never came, or came too late."""

from datetime import timedelta

import msgspec
import pytest

from aitbc.kernel.crypto.copies import copy_id
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.events.relay import EventHandler
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.modules.ai.events import AnswerSucceeded, HoldsFreed, JobClosed, JobSucceeded
from aitbc.modules.trading.api import HoldNotFound, HoldNotOpen, SettleHold
from aitbc.modules.trading.module import module
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.make import a_hold, a_settlement, funded, require_sound, trading_on


def succeeded(settlement: SettleHold) -> JobSucceeded:
    """The event of a settlement."""
    fields = msgspec.structs.asdict(settlement)
    return JobSucceeded(job_kind=fields.pop("kind"), **fields)


def event_handlers(trading: TradingService) -> tuple[EventHandler, EventHandler]:
    """The two event handlers of trading, by its manifest."""
    one, other = (
        EventHandler(trading.db, f"trading.{method.__name__}", getattr(trading, method.__name__))
        for method in (module.handles[JobSucceeded], module.handles[JobClosed])
    )
    return one, other


async def test_a_success_that_nobody_settled_is_settled_once(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 1000)
        direct, late = a_hold(payer, 100), a_hold(payer, 100)
        for hold in (direct, late):
            await trading.hold(hold)
        settlements = [a_settlement(hold, 60) for hold in (direct, late)]
        await trading.settle(settlements[0])
        delivered = [(new_uuid(), succeeded(settlement)) for settlement in settlements]
        handler, _ = event_handlers(trading)
        await handler.receive(delivered)
        await handler.receive(delivered)
        await handler.receive([(new_uuid(), event) for _, event in delivered])
        assert (await trading.balance(payer)).available_units == 880
        assert (await trading.settle(settlements[1])).price_units == 60
        await require_sound(trading)


async def test_an_end_without_success_returns_the_money_once(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 1000)
        holds = [a_hold(payer, 100) for _ in range(3)]
        for hold in holds:
            await trading.hold(hold)
        await trading.void(holds[0].hold, "canceled")
        _, handler = event_handlers(trading)
        closed = [JobClosed(job=hold.reference, hold=hold.hold, state="failed", reason="gave_up") for hold in holds[:2]]
        for _ in range(2):
            await handler.receive([(new_uuid(), event) for event in closed])
        balance = await trading.balance(payer)
        assert (balance.available_units, balance.held_units) == (900, 100)
        await require_sound(trading)


async def test_a_success_whose_money_has_gone_back_stays_with_the_relay(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 1000)
        hold = a_hold(payer, 100)
        await trading.hold(hold)
        clock.move(timedelta(hours=2))
        await trading.expire_holds()
        handler, closing = event_handlers(trading)
        with pytest.raises(HoldNotOpen):
            await handler.receive([(new_uuid(), succeeded(a_settlement(hold, 60)))])
        with pytest.raises(HoldNotFound):
            await handler.receive([(new_uuid(), succeeded(a_settlement(a_hold(payer, 5), 5)))])
        unknown = a_hold(payer, 5)
        event = JobClosed(job=unknown.reference, hold=unknown.hold, state="failed", reason="gave_up")
        with pytest.raises(HoldNotFound):
            await closing.receive([(new_uuid(), event)])
        await require_sound(trading)


async def test_the_answers_to_a_verified_job_are_paid_each_from_a_hold_of_its_own(owner: Target) -> None:
    async with trading_on(owner) as trading:
        payer = await funded(trading, 1000)
        first = a_hold(payer, 100)
        holds = [msgspec.structs.replace(first, hold=copy_id(first.hold, number)) for number in range(3)]
        for hold in holds:
            await trading.hold(hold)
        works = [a_settlement(hold, 60) for hold in holds[:2]]
        answers = [{"attempt": work.attempt, "output_digest": work.output_digest} for work in works]
        # Both settlements are of one attempt here: the ledger goes by holds, and the receipts' check by its evidence.
        said = {"rule": "the same", "tier": "sampled", "verdict": "unchecked"}
        said["answers"] = [answers[0] | {"agrees": True, "trusted": False}]  # type: ignore[assignment]
        works = [msgspec.structs.replace(work, verification=said) for work in works]
        further = AnswerSucceeded(**msgspec.structs.asdict(succeeded(works[1])))
        freed = HoldsFreed(job=first.reference, holds=(holds[2].hold,), reason="not needed")
        handlers = {
            kind: EventHandler(trading.db, f"trading.{kind.__name__}", getattr(trading, module.handles[kind].__name__))
            for kind in (AnswerSucceeded, HoldsFreed)
        }
        paid = await trading.settle(works[0])
        for _ in range(2):
            await handlers[AnswerSucceeded].receive([(new_uuid(), further)])
            await handlers[HoldsFreed].receive([(new_uuid(), freed)])
        balance = await trading.balance(payer)
        assert (balance.available_units, balance.held_units) == (880, 0)
        receipt = await trading.explorer.receipt(copy_id(paid.receipt, 1))
        assert receipt.receipt.verification.tier == "sampled"  # type: ignore[union-attr]
        assert (await trading.settle(works[1])).receipt == copy_id(paid.receipt, 1)
        await require_sound(trading)

"""The ledger against a small model of it: any commands, several in one flush, in any order, repeated at will."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec import Struct
from msgspec.structs import replace

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.money import share, split
from aitbc.modules.ai.events import JobClosed
from aitbc.modules.trading.api import (
    Hold,
    HoldDiffers,
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PayRent,
    PlaceHold,
    PriceAboveHold,
    RaiseHold,
    Settlement,
)
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.make import ADMIN, a_hold, a_rent, a_settlement, require_sound, trading_on
from tests.modules.trading.test_event_handlers import event_handlers, succeeded
from tests.scale import scaled

T = TypeVar("T")
Act = Callable[[TradingService], Awaitable[Any]]
Expected = type[AppError] | str
"""The refusal of a command, or the state that its hold is in afterwards."""
KINDS = ("hold", "hold", "hold again", "settle", "settle", "void", "raise", "alter", "unknown")
processes = st.sampled_from([0, 1])
picks = st.integers(0, 1000)
commands = st.tuples(st.sampled_from(KINDS), picks, st.integers(1, 1000), picks)


class Placed(Struct):
    """A hold, as the model has it."""

    command: PlaceHold
    expires_at: datetime
    state: str = "open"
    price: int | None = None
    rate: int = 250
    """The share of the platform in what was paid, in 1/10 000."""
    rent: PayRent | None = None
    settlement: Settlement | None = None
    """What the first settlement returned: each repetition must return the same."""


class LedgerModel(RuleBasedStateMachine):
    """What each account should have, and how each hold should have ended."""

    owner: Target

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        opened = [self.stack.enter_async_context(trading_on(self.owner)) for _ in range(2)]
        self.processes: list[TradingService] = [self.run(one) for one in opened]
        self.accounts = [ids.new_id("acct") for _ in range(3)]
        self.available = dict.fromkeys(self.accounts, 0)
        self.held = dict.fromkeys(self.accounts, 0)
        self.holds: list[Placed] = []

    def run(self, work: Awaitable[T]) -> T:
        """Wait for something asynchronous."""

        async def waiting() -> T:
            return await work

        return self.runner.run(waiting())

    def refusal_of(self, work: Awaitable[Any]) -> type[AppError] | None:
        """The refusal of a command, or none when it was done."""
        try:
            self.run(work)
        except AppError as refusal:
            return type(refusal)
        return None

    @rule(which=picks, units=st.integers(1, 3000), process=processes)
    def deposit(self, which: int, units: int, process: int) -> None:
        account = self.accounts[which % 3]
        self.run(self.processes[process].deposits.deposit(ADMIN, account, units, None, IdempotencyKey.NONE))
        self.available[account] += units

    @rule(batch=st.lists(commands, min_size=1, max_size=8), process=processes)
    def flush(self, batch: list[tuple[str, int, int, int]], process: int) -> None:
        """Commands that arrive together go in one flush, in their order."""
        service = self.processes[process]
        planned = [self._planned(*command) for command in batch]

        async def together() -> list[Any]:
            return await asyncio.gather(*(act(service) for act, _, _ in planned), return_exceptions=True)

        for outcome, (_, expected, hold) in zip(self.run(together()), planned, strict=True):
            if isinstance(outcome, BaseException):
                assert type(outcome) is expected
            elif isinstance(outcome, Hold):
                assert outcome.state == expected
            else:
                assert expected == "settled" and hold is not None
                assert (outcome.price_units, outcome.fee_units) == (hold.price, share(outcome.price_units, hold.rate))
                hold.settlement = hold.settlement or outcome
                assert outcome == hold.settlement

    def _planned(self, kind: str, which: int, units: int, other: int) -> tuple[Act, Expected, Placed | None]:
        """A command, and what the model says of it and then has done."""
        if kind == "hold" or not self.holds:
            command = a_hold(self.accounts[which % 3], units, lasts=timedelta(minutes=1 + other % 20))
            return lambda service: service.hold(command), self._hold(command), None
        hold = self.holds[which % len(self.holds)]
        placed = hold.command
        if kind == "hold again":
            return lambda service: service.hold(placed), hold.state, hold
        if kind == "alter":
            altered = replace(placed, amount_units=placed.amount_units + units)
            return lambda service: service.hold(altered), HoldDiffers, hold
        if kind == "void":
            expected = self._void(hold)
            return lambda service: service.void(placed.hold, "canceled"), expected, hold
        if kind == "raise":
            raising = RaiseHold(hold=placed.hold, payer=placed.payer, amount_units=units)
            return lambda service: service.raise_hold(raising), self._raise(hold, units), hold
        earner = self.accounts[other % 3]
        if kind == "unknown":
            unknown = a_settlement(a_hold(earner, units), units)
            return lambda service: service.settle(unknown), HoldNotFound, None
        price = hold.price if hold.price is not None and other % 2 else units - 1
        settlement = a_settlement(placed, price, miner_account=earner)
        expected = self._settle(hold, price, earner)
        return lambda service: service.settle(settlement), expected, hold

    def _hold(self, command: PlaceHold) -> Expected:
        if command.amount_units > self.available[command.payer]:
            return InsufficientFunds
        self.available[command.payer] -= command.amount_units
        self.held[command.payer] += command.amount_units
        self.holds.append(Placed(command, expires_at=command.expires_at))
        return "open"

    def _raise(self, hold: Placed, units: int) -> Expected:
        more = units - hold.command.amount_units
        if hold.state != "open":
            return HoldNotOpen
        if more > 0:
            if more > self.available[hold.command.payer]:
                return InsufficientFunds
            self.available[hold.command.payer] -= more
            self.held[hold.command.payer] += more
            hold.command = replace(hold.command, amount_units=units)
        return "open"

    def _settle(self, hold: Placed, price: int, earner: str) -> Expected:
        if hold.state == "settled" and hold.rent is None and price == hold.price:
            return "settled"
        return self._pay(hold, price, earner, rate=0 if earner == hold.command.payer else 250)

    def _pay(self, hold: Placed, price: int, earner: str, rate: int = 250) -> Expected:
        if hold.state != "open":
            return HoldNotOpen
        if price > hold.command.amount_units:
            return PriceAboveHold
        self._end(hold, "settled", price)
        self.available[earner] += price - share(price, rate)
        hold.price, hold.rate = price, rate
        return "settled"

    def _void(self, hold: Placed) -> Expected:
        if hold.state == "settled":
            return HoldNotOpen
        if hold.state == "open":
            self._end(hold, "voided", 0)
        return hold.state

    def _end(self, hold: Placed, state: str, price: int) -> None:
        payer, amount = hold.command.payer, hold.command.amount_units
        self.held[payer] -= amount
        self.available[payer] += amount - price
        hold.state = state

    @precondition(lambda self: self.holds)
    @rule(which=picks, price=st.integers(0, 1100), owner=picks, process=processes)
    def rent(self, which: int, price: int, owner: int, process: int) -> None:
        hold = self.holds[which % len(self.holds)]
        earner = self.accounts[owner % 3]
        rent = hold.rent or a_rent(hold.command, price, owner=earner)
        expected = "settled" if hold.rent is not None else self._pay(hold, price, earner)
        refusal = self.refusal_of(self.processes[process].pay_rent(rent))
        assert refusal is (None if expected == "settled" else expected)
        if refusal is None:
            hold.rent = rent

    @precondition(lambda self: self.holds)
    @rule(which=picks, units=st.integers(0, 1100), miner=picks, process=processes)
    def job_succeeded(self, which: int, units: int, miner: int, process: int) -> None:
        """The event settles what was not settled directly; once settled it changes nothing."""
        hold = self.holds[which % len(self.holds)]
        earner = self.accounts[miner % 3]
        event = succeeded(a_settlement(hold.command, units, miner_account=earner))
        expected = "settled" if hold.state == "settled" else self._settle(hold, units, earner)
        handler, _ = event_handlers(self.processes[process])
        refusal = self.refusal_of(handler.receive([(new_uuid(), event)]))
        assert refusal is (None if expected == "settled" else expected)

    @precondition(lambda self: self.holds)
    @rule(which=st.lists(picks, min_size=1, max_size=3), process=processes)
    def jobs_closed(self, which: list[int], process: int) -> None:
        """The event returns what was not returned directly; one that was paid refuses all of them."""
        holds = [self.holds[one % len(self.holds)] for one in which]
        refused = any(hold.state == "settled" for hold in holds)
        if not refused:
            for hold in holds:
                self._void(hold)
        _, handler = event_handlers(self.processes[process])
        events = [
            JobClosed(job=hold.command.reference, hold=hold.command.hold, state="failed", reason="gave_up")
            for hold in holds
        ]
        refusal = self.refusal_of(handler.receive([(new_uuid(), event) for event in events]))
        assert refusal is (HoldNotOpen if refused else None)

    @precondition(lambda self: self.holds)
    @rule(which=st.lists(picks, min_size=1, max_size=3), minutes=st.integers(-10, 30), process=processes)
    def prolong(self, which: list[int], minutes: int, process: int) -> None:
        """No deadline comes nearer, and what has ended stays so."""
        until = now() + timedelta(minutes=minutes)
        holds = {hold.command.hold: hold for hold in (self.holds[one % len(self.holds)] for one in which)}
        still = self.run(self.processes[process].prolong(list(holds), until))
        still_open = {name: hold for name, hold in holds.items() if hold.state == "open"}
        assert sorted(still) == sorted(still_open)
        for hold in still_open.values():
            hold.expires_at = max(hold.expires_at, until)

    @rule(minutes=st.integers(1, 10), process=processes)
    def expire(self, minutes: int, process: int) -> None:
        clock.move(timedelta(minutes=minutes))
        for _ in range(2):  # the second time there is nothing left to do
            self.run(self.processes[process].expire_holds())
        for hold in self.holds:
            if hold.state == "open" and hold.expires_at <= now():
                self._end(hold, "expired", 0)

    @rule(process=processes)
    def seal(self, process: int) -> None:
        self.run(self.processes[process].seal())

    @invariant()
    def balances_are_as_they_should_be(self) -> None:
        for account in self.accounts:
            balance = self.run(self.processes[0].balance(account))
            assert (balance.available_units, balance.held_units) == (self.available[account], self.held[account])

    def teardown(self) -> None:
        self.run(require_sound(self.processes[0]))
        for hold in self.holds:
            if hold.state == "open":
                self.run(self.processes[0].void(hold.command.hold, "end of the run"))
        self.run(self.stack.aclose())
        self.runner.close()
        clock.reset()


@pytest.fixture
def machine(new_ledger: Callable[[], Target]) -> type[LedgerModel]:
    """The model on a ledger of its own."""
    return type("Model", (LedgerModel,), {"owner": new_ledger()})


def test_the_ledger_does_what_its_model_does(machine: type[LedgerModel]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=scaled(6, 25), stateful_step_count=30, deadline=None)
    )


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(0, 10_000), min_size=1, max_size=12).filter(any))
def test_a_split_by_basis_points_sums_exactly(units: int, weights: list[int]) -> None:
    parts = split(units, weights)
    assert sum(parts) == units
    assert min(parts) >= 0
    assert all(
        abs(part * sum(weights) - units * weight) < sum(weights) for part, weight in zip(parts, weights, strict=True)
    )


@given(st.integers(0, 2**63 - 1), st.integers(0, 10_000))
def test_fee_and_earnings_add_up_to_the_price(price: int, basis_points: int) -> None:
    fee = share(price, basis_points)
    assert 0 <= fee <= price
    assert abs(fee * 10_000 - price * basis_points) <= 5_000

"""The ledger against a small model of it: any commands, in any order, repeated at will, by either way."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.money import share, split
from aitbc.modules.trading.api import HoldNotOpen, InsufficientFunds, PayRent, PlaceHold, PriceAboveHold, SettleHold
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.make import ADMIN, a_hold, a_rent, a_settlement, require_sound, trading_on

T = TypeVar("T")
amounts = st.integers(1, 1000)
ways = st.sampled_from([0, 1])
picks = st.integers(0, 1000)


class LedgerModel(RuleBasedStateMachine):
    """What each account should have, and how each hold should have ended."""

    owner: Target

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        opened = [self.stack.enter_async_context(trading_on(self.owner, hot=hot)) for hot in (True, False)]
        self.ways: list[TradingService] = [self.run(one) for one in opened]
        self.accounts = [ids.new_id("acct") for _ in range(3)]
        self.available = dict.fromkeys(self.accounts, 0)
        self.held = dict.fromkeys(self.accounts, 0)
        self.holds: list[tuple[PlaceHold, SettleHold | None]] = []
        self.ended: dict[str, str] = {}
        self.rents: dict[str, PayRent] = {}

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

    @rule(which=picks, units=amounts, way=ways)
    def deposit(self, which: int, units: int, way: int) -> None:
        account = self.accounts[which % 3]
        self.run(self.ways[way].deposits.deposit(ADMIN, account, units, None, IdempotencyKey.NONE))
        self.available[account] += units

    @rule(which=picks, units=amounts, way=ways, lasts=st.integers(1, 20))
    def hold(self, which: int, units: int, way: int, lasts: int) -> None:
        payer = self.accounts[which % 3]
        command = a_hold(payer, units, lasts=timedelta(minutes=lasts))
        refusal = self.refusal_of(self.ways[way].hold(command))
        if units > self.available[payer]:
            assert refusal is InsufficientFunds
            return
        assert refusal is None
        self.available[payer] -= units
        self.held[payer] += units
        self.holds.append((command, None))

    @precondition(lambda self: self.holds)
    @rule(which=picks, way=ways)
    def repeat_hold(self, which: int, way: int) -> None:
        command, _ = self.holds[which % len(self.holds)]
        answered = self.run(self.ways[way].hold(command))
        assert answered.state == self.ended.get(command.hold, "open")

    @precondition(lambda self: self.holds)
    @rule(which=picks, price=st.integers(0, 1100), miner=picks, way=ways)
    def settle(self, which: int, price: int, miner: int, way: int) -> None:
        at = which % len(self.holds)
        command, before = self.holds[at]
        earner = self.accounts[miner % 3]
        settlement = before or a_settlement(command, price, miner_account=earner)
        refusal = self.refusal_of(self.ways[way].settle(settlement))
        state = self.ended.get(command.hold, "open")
        if state != "open":
            paid = state == "settled" and command.hold not in self.rents
            assert refusal is (None if paid else HoldNotOpen)
            return
        if price > command.amount_units:
            assert refusal is PriceAboveHold
            return
        assert refusal is None
        self.held[command.payer] -= command.amount_units
        self.available[command.payer] += command.amount_units - price
        self.available[earner] += price - share(price, 250)
        self.ended[command.hold] = "settled"
        self.holds[at] = (command, settlement)

    @precondition(lambda self: self.holds)
    @rule(which=picks, price=st.integers(0, 1100), owner=picks, way=ways)
    def rent(self, which: int, price: int, owner: int, way: int) -> None:
        command, _ = self.holds[which % len(self.holds)]
        earner = self.accounts[owner % 3]
        before = self.rents.get(command.hold)
        paid = before or a_rent(command, price, owner=earner)
        refusal = self.refusal_of(self.ways[way].pay_rent(paid))
        if command.hold in self.ended:
            assert refusal is (HoldNotOpen if before is None else None)
            return
        if price > command.amount_units:
            assert refusal is PriceAboveHold
            return
        assert refusal is None
        self.held[command.payer] -= command.amount_units
        self.available[command.payer] += command.amount_units - price
        self.available[earner] += price - share(price, 250)
        self.ended[command.hold] = "settled"
        self.rents[command.hold] = paid

    @precondition(lambda self: self.holds)
    @rule(which=picks, way=ways)
    def void(self, which: int, way: int) -> None:
        command, _ = self.holds[which % len(self.holds)]
        refusal = self.refusal_of(self.ways[way].void(command.hold, "canceled"))
        state = self.ended.get(command.hold, "open")
        assert refusal is (HoldNotOpen if state == "settled" else None)
        if state == "open":
            self._returned(command, "voided")

    @rule(minutes=st.integers(1, 10), way=ways)
    def expire(self, minutes: int, way: int) -> None:
        clock.move(timedelta(minutes=minutes))
        self.run(self.ways[way].expire_holds())
        for command, _ in self.holds:
            if command.hold not in self.ended and command.expires_at <= now():
                self._returned(command, "expired")

    @rule(way=ways)
    def seal(self, way: int) -> None:
        self.run(self.ways[way].seal())

    def _returned(self, command: PlaceHold, state: str) -> None:
        self.held[command.payer] -= command.amount_units
        self.available[command.payer] += command.amount_units
        self.ended[command.hold] = state

    @invariant()
    def balances_are_as_they_should_be(self) -> None:
        for account in self.accounts:
            balance = self.run(self.ways[0].balance(account))
            assert (balance.available_units, balance.held_units) == (self.available[account], self.held[account])

    def teardown(self) -> None:
        self.run(require_sound(self.ways[0]))
        for command, _ in self.holds:
            if command.hold not in self.ended:
                self.run(self.ways[0].void(command.hold, "end of the run"))
        self.run(self.stack.aclose())
        self.runner.close()
        clock.reset()


@pytest.fixture
def machine(new_ledger: Callable[[], Target]) -> type[LedgerModel]:
    """The model on a ledger of its own."""
    return type("Model", (LedgerModel,), {"owner": new_ledger()})


def test_the_ledger_does_what_its_model_does(machine: type[LedgerModel]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=30, deadline=None))


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

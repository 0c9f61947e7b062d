"""Trades against a small model of them: any commands in any order from two processes, and time; INV-T1 to INV-T8."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.money import share, split
from aitbc.modules.trading.models.trades.life import TERMS
from aitbc.modules.trading.models.trades.views import Milestone
from aitbc.modules.trading.service import TradingService
from aitbc.modules.trading.service.trades.commands import PlaceTradeOffer, PlaceTradeRequest, TradeFilter, TradeTerms
from tests.modules.trading.make import ADMIN, person, require_sound, sql, trading_on
from tests.scale import scaled

NONE = IdempotencyKey.NONE
picks = st.integers(0, 1000)
HOURS = (1, 3, 25, 169)
PERIOD_HOURS = 24
SUMS = """
SELECT count(*) FROM trading.trade_settlements s JOIN trading.trade_agreements a ON a.id = s.agreement
JOIN trading.trade_requests r ON r.id = a.request JOIN trading.trade_matches m ON m.id = a.match
WHERE a.state <> s.state OR r.state <> s.state OR m.state <> s.state OR s.total_units <> a.price_units
OR (a.buyer, a.seller) <> (m.buyer, m.seller) OR r.buyer <> a.buyer
OR s.total_units <> (SELECT sum(amount_units) FROM trading.trade_payments p WHERE p.settlement = s.id)
OR s.fee_units + s.net_units <> (SELECT sum(paid_units) FROM trading.trade_payments p WHERE p.settlement = s.id)
OR EXISTS (SELECT FROM trading.trade_payments p JOIN trading.holds h ON h.id = p.hold WHERE p.settlement = s.id
    AND ((p.state IN ('held', 'delivered')) <> (h.state = 'open') OR p.amount_units <> h.amount_units
        OR p.paid_units <> coalesce(h.price_units, 0)))"""
OFFERS = """
SELECT count(*) FROM trading.trade_offers o WHERE taken <>
(SELECT count(*) FROM trading.trade_agreements a WHERE a.offer = o.id AND a.state <> 'cancelled')"""
TWICE = """
SELECT count(*) FROM trading.trade_requests r WHERE state IN ('agreed', 'settling', 'completed')
AND EXISTS (SELECT FROM trading.trade_matches m WHERE m.request = r.id AND m.state IN ('matching', 'negotiating'))"""


class Settled(Struct):
    """A settlement, as the model has it: what is held of each payment, and whether it is disputed."""

    id: str
    buyer: int
    seller: int
    type: str
    amounts: list[int]
    states: list[str]
    started_at: datetime
    disputed: bool = False
    was_disputed: bool = False
    disputed_at: datetime | None = None

    def not_begun(self, at: datetime | None) -> list[int]:
        """Which unpaid periods of a subscription begin at a time or later."""
        assert at is not None
        begins = [self.started_at + number * timedelta(hours=PERIOD_HOURS) for number in range(len(self.states))]
        unpaid = [number for number, state in enumerate(self.states) if state in ("held", "delivered")]
        return [number for number in unpaid if self.type == "subscription" and begins[number] >= at]


class TradeModel(RuleBasedStateMachine):
    """What each account should have while trades go on."""

    owner: Target

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.processes: list[TradingService] = [
            self.run(self.stack.enter_async_context(trading_on(self.owner))) for _ in range(2)
        ]
        self.people: list[Principal] = [person() for _ in range(3)]
        self.available = [3_000, 3_000, 3_000]
        self.held = [0, 0, 0]
        self.volume = 0
        self.agreed: list[tuple[str, int, int, int, TradeTerms]] = []
        self.settlements: list[Settled] = []
        for one in self.people:
            self.run(self.processes[0].deposits.deposit(ADMIN, one.account, 3_000, None, NONE))

    def run(self, work: Awaitable[Any]) -> Any:
        """Wait for something asynchronous."""

        async def waiting() -> Any:
            return await work

        return self.runner.run(waiting())

    def done(self, work: Awaitable[Any]) -> bool:
        """Whether a command was done, or refused."""
        try:
            self.run(work)
        except AppError:
            return False
        return True

    @rule(who=st.integers(0, 2), other=st.integers(1, 2), price=st.integers(1, 2_000), kind=picks, process=picks)
    def agree(self, who: int, other: int, price: int, kind: int, process: int) -> None:
        """Somebody offers, another asks, and the match is accepted or negotiated."""
        service, seller = self.processes[process % 2], (who + other) % 3
        buyer, title = self.people[who], f"trade {len(self.agreed)}"
        terms = (
            TradeTerms(settlement_type="immediate"),
            TradeTerms(),
            TradeTerms(
                settlement_type="milestone",
                milestones=(Milestone(name="a", share=1 + kind % 5), Milestone(name="b", share=3)),
            ),
            TradeTerms.subscription(3, PERIOD_HOURS),
        )[kind % 4]
        offer = PlaceTradeOffer(trade_type="ai_power", title=title, price_units=price)
        offered = self.run(service.trade_offers.place(self.people[seller], offer, NONE))
        asked = self.run(
            service.trade_requests.place(buyer, PlaceTradeRequest(trade_type="ai_power", title=title), NONE)
        )
        found = self.run(service.trade_matches.find(buyer, asked.id, NONE)).data
        mine = [match for match in found if match.offer == offered.id]
        if mine and self.done(service.trade_matches.accept(buyer, mine[0].id, terms, NONE)):
            again = self.done(service.trade_matches.accept(buyer, mine[0].id, terms, NONE))
            assert not again, "a request leads to one agreement"
            (agreement, *_) = self.run(service.trade_agreements.page(buyer, TradeFilter(limit=1)))
            self.agreed.append((agreement.id, who, seller, price, terms))
        self.run(service.trade_offers.close(self.people[seller], offered.id, NONE))

    @rule(which=picks, process=picks)
    def settle(self, which: int, process: int) -> None:
        if not self.agreed:
            return
        agreement, buyer, seller, price, terms = self.agreed.pop(which % len(self.agreed))
        settling = self.processes[process % 2].trade_settlements.start
        before = self.run(self.processes[0].trade_agreements.one(self.people[buyer], agreement)).state
        fits = self.available[buyer] >= price and before == "agreed"
        assert not self.done(settling(self.people[seller], agreement, NONE))
        done = self.done(settling(self.people[buyer], agreement, NONE))
        assert not done or fits
        if not done:
            return
        (settlement, *_) = self.run(self.processes[0].trade_settlements.page(self.people[buyer], TradeFilter(limit=1)))
        amounts = split(price, [one.share for one in terms.milestones] or [1])
        kind = terms.settlement_type or "escrow"
        made = Settled(settlement.id, buyer, seller, kind, amounts, ["held"] * len(amounts), now())
        self.available[buyer] -= price
        self.held[buyer] += price
        self.settlements.append(made)
        if terms.settlement_type == "immediate":
            self._end(made, 0, price)

    @rule(which=picks, number=st.integers(1, 3), what=st.sampled_from(["deliver", "confirm", "refund"]), process=picks)
    def on_payment(self, which: int, number: int, what: str, process: int) -> None:
        if not self.settlements:
            return
        one = self.settlements[which % len(self.settlements)]
        by_seller = what != "confirm"
        command = getattr(self.processes[process % 2].trade_settlements, what)
        wrong, right = (one.buyer, one.seller) if by_seller else (one.seller, one.buyer)
        assert not self.done(command(self.people[wrong], one.id, number, NONE))
        done = self.done(command(self.people[right], one.id, number, NONE))
        known = number <= len(one.amounts) and not one.disputed
        state = one.states[number - 1] if known else ""
        finals = {"deliver": "delivered", "confirm": "paid", "refund": "refunded"}
        delivers = what != "deliver" or one.type != "subscription"
        assert done == (delivers and state in ("held", "delivered", finals[what])), (what, state)
        if done and what == "deliver":
            one.states[number - 1] = "delivered"
        elif done and state in ("held", "delivered"):
            self._end(one, number - 1, one.amounts[number - 1] if what == "confirm" else 0)

    @rule(which=picks, process=picks, points=st.integers(0, 10_000), decides=st.booleans())
    def dispute(self, which: int, process: int, points: int, decides: bool) -> None:
        if not self.settlements:
            return
        one = self.settlements[which % len(self.settlements)]
        service, unpaid = self.processes[process % 2], [s for s in one.states if s in ("held", "delivered")]
        begun = self.done(service.trade_disputes.begin(self.people[one.buyer], one.id, "why", NONE))
        assert begun == (bool(unpaid) and not one.was_disputed)
        one.disputed, one.was_disputed = one.disputed or begun, one.was_disputed or begun
        one.disputed_at = now() if begun else one.disputed_at
        if decides:
            decided = self.done(service.trade_disputes.decide(ADMIN, one.id, points, "so", NONE))
            assert decided == one.disputed
            if decided:
                self._divide(one, points)

    @rule(which=picks, process=picks, by_seller=st.booleans())
    def stop(self, which: int, process: int, by_seller: bool) -> None:
        """A subscription ends: what later periods cost goes back."""
        if not self.settlements:
            return
        one = self.settlements[which % len(self.settlements)]
        who = self.people[one.seller if by_seller else one.buyer]
        stopped = self.done(self.processes[process % 2].trade_settlements.stop(who, one.id, NONE))
        assert stopped == (one.type == "subscription" and not one.disputed)
        if stopped:
            for ahead in one.not_begun(now()):
                self._end(one, ahead, 0)

    @rule(hours=st.sampled_from(HOURS), process=picks)
    def wait(self, hours: int, process: int) -> None:
        """Time passes: what the platform does then is read from it, and must be one of the two that time may do."""
        clock.move(timedelta(hours=hours))
        service = self.processes[process % 2]
        self.run(service.expire_holds())
        self.run(service.end_trades())
        for one in self.settlements:
            shown = self.run(service.trade_settlements.one(self.people[one.buyer], one.id))
            if one.disputed and not shown.disputed:
                for ahead in one.not_begun(one.disputed_at):
                    self._end(one, ahead, 0)
                self._divide(one, 5_000)
            for at, payment in enumerate(shown.payments):
                before = one.states[at]
                if before in ("held", "delivered") and payment.state != before:
                    by_time = one.type == "subscription" or before == "delivered"
                    assert payment.state == ("paid" if by_time else "refunded") and not one.disputed
                    self._end(one, at, one.amounts[at] if by_time else 0)

    def _divide(self, one: Settled, points: int) -> None:
        one.disputed = False
        for at, state in enumerate(one.states):
            if state in ("held", "delivered"):
                self._end(one, at, share(one.amounts[at], points))

    def _end(self, one: Settled, at: int, price: int) -> None:
        amount = one.amounts[at]
        fee = share(price, TERMS[one.type].fee_basis_points)
        self.held[one.buyer] -= amount
        self.available[one.buyer] += amount - price
        self.available[one.seller] += price - fee
        one.states[at] = {0: "refunded", amount: "paid"}.get(price, "divided")

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        for number, one in enumerate(self.people):
            balance = self.run(self.processes[0].balance(one.account))
            assert (balance.available_units, balance.held_units) == (self.available[number], self.held[number])

    @invariant()
    def every_row_says_the_same(self) -> None:
        async def look() -> list[int]:
            async with sql(self.owner) as connection:
                return [await connection.fetchval(query) for query in (SUMS, OFFERS, TWICE)]

        assert self.run(look()) == [0, 0, 0]

    def teardown(self) -> None:
        """At the end the ledger is sound, and the figures are those of the rows."""
        try:
            self.run(require_sound(self.processes[0]))
        finally:
            self.run(self.stack.aclose())
            self.runner.close()
            clock.reset()


def test_any_trades_in_any_order(new_ledger: Callable[[], Target]) -> None:
    class OnThisLedger(TradeModel):
        owner = new_ledger()

    run_state_machine_as_test(
        OnThisLedger, settings=settings(max_examples=scaled(2, 6), stateful_step_count=20, deadline=None)
    )

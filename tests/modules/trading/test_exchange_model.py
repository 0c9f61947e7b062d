"""The exchange against a model of it in memory, written from its rules alone: equal to the unit after any operations."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.money import parse
from aitbc.modules.trading.api import InsufficientFunds, PlaceHold
from aitbc.modules.trading.service import TradingService
from aitbc.modules.trading.service.exchange.orders import OPEN_MAX, PlaceOrder
from tests.modules.trading.exchange import STEP, a_pair
from tests.modules.trading.make import ADMIN, AITBC, a_hold, a_rent, once, person, require_sound, trading_on
from tests.modules.trading.test_exchange import require_replayed
from tests.scale import scaled

ASSETS = ("AITBC", "GOLD", "IRON")
PAIRS = ("GOLD-AITBC", "IRON-AITBC", "IRON-GOLD")
FEE = 50
LOOKS_EVERY = scaled(20, 2_000)


@dataclass
class Modelled:
    """An order, as the model has it."""

    owner: int
    pair: str
    side: str
    price: int
    left: int
    place: int
    state: str = "open"


@dataclass
class Model:
    """What everybody has, and what rests: sums of whole numbers, and nothing that the service computes."""

    free: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    held: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    fees: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    orders: dict[str, Modelled] = field(default_factory=dict)
    holds: dict[str, tuple[int, PlaceHold]] = field(default_factory=dict)
    places: int = 0

    def plan(self, one: Modelled) -> tuple[list[tuple[str, int, int]], str | None]:
        """What an order would take, one unit step of the book after the other, and why it would end there."""
        taken: list[tuple[str, int, int]] = []
        left = one.left
        others = [(name, it) for name, it in self.orders.items() if it.state == "open" and it.pair == one.pair]
        while left:
            there = {name for name, _, _ in taken}
            fitting = [
                (it.price if one.side == "buy" else -it.price, it.place, name)
                for name, it in others
                if it.side != one.side and name not in there and _agree(one, it.price)
            ]
            if not fitting:
                return taken, None
            name = min(fitting)[2]
            if self.orders[name].owner == one.owner:
                return taken, "self_trade"
            amount = min(left, self.orders[name].left)
            taken.append((name, amount, self.orders[name].price))
            left -= amount
        return taken, None

    def place(self, one: Modelled, lasts: str, post_only: bool) -> tuple[str, str | None, int]:
        """State, reason, and the quantity that is filled; raises when the money is not there."""
        taken, why = self.plan(one)
        filled = sum(amount for _, amount, _ in taken)
        self.places += 1
        one.place = self.places
        if post_only and (taken or why):
            return self._ended(one, "would_take")
        if lasts == "fok" and filled < one.left:
            return self._ended(one, why or "not_filled")
        rests = filled < one.left and lasts == "gtc" and why is None
        base, quote = one.pair.split("-")
        needed = [(amount, price) for _, amount, price in taken] + ([(one.left - filled, one.price)] if rests else [])
        gives = quote if one.side == "buy" else base
        total = sum(a * p // AITBC if one.side == "buy" else a for a, p in needed)
        if self.free[one.owner, gives] < total:
            self.places -= 1
            raise InsufficientFunds(available="", needed="")
        self.free[one.owner, gives] -= total
        self.held[one.owner, gives] += total
        for name, amount, price in taken:
            other = self.orders[name]
            buyer, seller = (one.owner, other.owner) if one.side == "buy" else (other.owner, one.owner)
            cost = amount * price // AITBC
            self.held[buyer, quote] -= cost
            self.held[seller, base] -= amount
            for who, asset, got in ((buyer, base, amount), (seller, quote, cost)):
                fee = (got * FEE + 5_000) // 10_000
                self.free[who, asset] += got - fee
                self.fees[asset] += fee
            other.left -= amount
            if not other.left:
                other.state = "filled"
        one.left -= filled
        if not one.left:
            one.state = "filled"
            return "filled", None, filled
        if not rests:
            one.state = "canceled"
            return "canceled", why or "momentary", filled
        return "open", None, filled

    def _ended(self, one: Modelled, why: str) -> tuple[str, str, int]:
        one.state = "canceled"
        return "canceled", why, 0

    def cancel(self, name: str) -> str:
        """The state afterwards."""
        one = self.orders[name]
        if one.state == "open":
            base, quote = one.pair.split("-")
            asset, amount = (quote, one.left * one.price // AITBC) if one.side == "buy" else (base, one.left)
            self.free[one.owner, asset] += amount
            self.held[one.owner, asset] -= amount
            one.state = "canceled"
        return one.state


def _agree(one: Modelled, price: int) -> bool:
    return not one.price or (price <= one.price if one.side == "buy" else price >= one.price)


class Run:
    """Random operations on the service and the model side by side."""

    def __init__(self, trading: TradingService, seed: int) -> None:
        self.trading = trading
        self.dice = random.Random(seed)
        self.people: list[Principal] = [person() for _ in range(4)]
        self.model = Model()

    async def step(self) -> None:
        """One operation."""
        kinds = ("place",) * 12 + ("cancel",) * 4 + ("deposit", "hold", "hold", "end", "end")
        await getattr(self, self.dice.choice(kinds))()

    async def deposit(self) -> None:
        who, asset, amount = self.dice.randrange(4), self.dice.choice(ASSETS), self.dice.randint(1, 500) * AITBC // 10
        await self.trading.deposits.deposit(ADMIN, self.people[who].account, amount, None, once(), asset)
        self.model.free[who, asset] += amount

    async def place(self) -> None:
        dice = self.dice
        who, pair, side = dice.randrange(4), dice.choice(PAIRS), dice.choice(("buy", "sell"))
        price = dice.choice([None, *([dice.randint(8, 12) * AITBC // 8 // STEP * STEP] * 7)])
        lasts = dice.choice(("ioc", "fok")) if price is None else dice.choice(("gtc", "gtc", "gtc", "ioc", "fok"))
        quantity = dice.randint(1, 40) * 123 * STEP
        post_only = lasts == "gtc" and dice.random() < 0.1
        mine = [it for it in self.model.orders.values() if it.owner == who and it.pair == pair and it.state == "open"]
        assert len(mine) < OPEN_MAX, "the model knows no such limit"
        command = PlaceOrder(
            pair=pair, side=side, quantity_units=quantity, price_units=price, lasts=lasts, post_only=post_only
        )
        wanted = Modelled(who, pair, side, price or 0, quantity, 0)
        expected: Any
        try:
            expected = self.model.place(wanted, lasts, post_only)
        except InsufficientFunds:
            expected = InsufficientFunds
        placing = self.trading.exchange_orders.place(self.people[who], command, once())
        if expected is InsufficientFunds:
            with pytest.raises(InsufficientFunds):
                await placing
            return
        made = await placing
        assert (made.state, made.reason, parse(made.filled, zero=True)) == expected
        self.model.orders[made.id] = wanted
        if len(self.model.orders) > 400:  # what is over is not asked about any more
            self.model.orders = {name: it for name, it in self.model.orders.items() if it.state == "open"}

    async def cancel(self) -> None:
        opened = [name for name, it in self.model.orders.items() if it.state == "open"] or list(self.model.orders)
        if opened:
            name = self.dice.choice(opened)
            who = self.people[self.model.orders[name].owner]
            assert (await self.trading.exchange_orders.cancel(who, name)).state == self.model.cancel(name)

    async def hold(self) -> None:
        who, amount = self.dice.randrange(4), self.dice.randint(1, 100) * AITBC // 10
        command = a_hold(self.people[who].account, amount)
        if self.model.free[who, "AITBC"] >= amount:
            await self.trading.hold(command)
            self.model.free[who, "AITBC"] -= amount
            self.model.held[who, "AITBC"] += amount
            self.model.holds[command.hold] = (who, command)

    async def end(self) -> None:
        if not self.model.holds:
            return
        name = self.dice.choice(list(self.model.holds))
        who, command = self.model.holds.pop(name)
        self.model.held[who, "AITBC"] -= command.amount_units
        if self.dice.random() < 0.5:
            await self.trading.void(name, "canceled")
            self.model.free[who, "AITBC"] += command.amount_units
            return
        other = self.dice.randrange(4)
        price = self.dice.randint(0, command.amount_units)
        paid = await self.trading.pay_rent(a_rent(command, price, owner=self.people[other].account))
        self.model.free[who, "AITBC"] += command.amount_units - price
        self.model.free[other, "AITBC"] += price - paid.fee_units
        self.model.fees["AITBC"] += paid.fee_units

    async def require_equal(self) -> None:
        """Everybody has what the model says, in each asset."""
        for number, who in enumerate(self.people):
            found = {one.asset: one for one in await self.trading.assets.of_account(who, who.account)}
            for asset in ASSETS:
                one = found.get(asset)
                has = (0, 0) if one is None else (parse(one.available, zero=True), parse(one.held, zero=True))
                assert has == (self.model.free[number, asset], self.model.held[number, asset]), (number, asset)


@pytest.mark.timeout(scaled(120, 7200))
async def test_any_operations_leave_what_the_model_says(empty: Target) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    async with trading_on(empty) as trading:
        for base, quote in (pair.split("-") for pair in PAIRS):
            await a_pair(trading, base, quote)
        run = Run(trading, seed)
        for number in range(scaled(150, 100_000)):
            await run.step()
            if number % LOOKS_EVERY == 0:
                await run.require_equal()
        await run.require_equal()
        fees = await trading.explorer.account(ADMIN, "system")
        assert parse(fees.available, zero=True) == run.model.fees["AITBC"]
        for pair in PAIRS:
            await require_replayed(empty, pair)
        await require_sound(trading)

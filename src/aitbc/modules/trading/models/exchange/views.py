"""Pairs, orders, trades and candles as callers see them."""

from datetime import datetime
from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.matching import LASTING
from aitbc.modules.trading.models.exchange.values import (
    MAKER_REASONS,
    MAKER_STATES,
    ORDER_KINDS,
    ORDER_REASONS,
    ORDER_STATES,
    PAIR_STATES,
    SIDES,
)


class ExchangePair(Struct, frozen=True, kw_only=True):
    """Two assets that are exchanged for each other."""

    id: str
    """The pair. For example `GOLD-AITBC`."""
    base: str
    """What is bought and sold. For example `GOLD`."""
    quote: str
    """What it is paid in. For example `AITBC`."""
    price_step: str
    """Prices are multiples of it. For example `0.0001`."""
    quantity_step: str
    """Quantities are multiples of it. For example `0.0001`."""
    min_quantity: str
    """The least that an order may be for. For example `0.01`."""
    max_quantity: str
    """The most that an order may be for. For example `1000`."""
    state: Annotated[str, one_of(PAIR_STATES)]
    """`open`, or `halted`: no new orders."""
    created_at: datetime
    """When it was made."""


class ExchangeOrder(Struct, frozen=True, kw_only=True):
    """What an account wants to buy or to sell, and how much of it was."""

    id: str
    """The order. For example `ordr_01k0000000000000000000000a`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000a`."""
    pair: str
    """The pair. For example `GOLD-AITBC`."""
    side: Annotated[str, one_of(SIDES)]
    """Whether it buys or sells `base`."""
    kind: Annotated[str, one_of(ORDER_KINDS)]
    """`limit`, or `market`: at any price, at once."""
    lasts: Annotated[str, one_of(LASTING)]
    """`gtc`: what is left rests; `ioc`: what is left is canceled at once; `fok`: all of it at once, or nothing."""
    post_only: bool
    """Whether it was to end where it would take something at once."""
    price: str | None
    """The most a buyer gives, the least a seller takes, for one `base`; null for a market order. For example `2.5`."""
    quantity: str
    """How much of `base` it is for. For example `10`."""
    filled: str
    """How much of it was bought or sold. For example `4`."""
    cost: str
    """What was paid for that, in `quote`, before fees. For example `9.8`."""
    fee: str
    """What it paid as fee, out of what it got. For example `0.02`."""
    fee_asset: str
    """What the fee is counted in. For example `GOLD`."""
    held: str
    """What lies in escrow for what is still open of it. For example `15`."""
    held_asset: str
    """What that is counted in. For example `AITBC`."""
    state: Annotated[str, one_of(ORDER_STATES)]
    """`open`, `filled` or `canceled`."""
    reason: Annotated[str, one_of(ORDER_REASONS)] | None
    """Why what was left of it ended; null while it is open, or filled."""
    label: str | None
    """What it is for, in its owner's words. For example `savings`."""
    created_at: datetime
    """When it was placed."""
    ended_at: datetime | None
    """When it was over."""


class ExchangeFill(Struct, frozen=True, kw_only=True):
    """A part of an order that was bought or sold."""

    trade: str
    """The trade. For example `trde_01k0000000000000000000000a`."""
    number: int
    """The how-manieth trade of its pair it is. For example `12`."""
    transaction: str
    """The transaction that paid it. For example `txn_01k0000000000000000000000a`."""
    price: str
    """At which price. For example `2.45`."""
    quantity: str
    """How much. For example `4`."""
    cost: str
    """What it cost, in `quote`. For example `9.8`."""
    fee: str
    """What this side paid as fee, out of what it got. For example `0.02`."""
    is_maker: bool
    """Whether this side's order had rested in the book."""
    at: datetime
    """When it was traded."""


class MarketMaker(Struct, frozen=True, kw_only=True):
    """A program that quotes both sides of a pair from its owner's account, and what it did, counted from its orders."""

    id: str
    """The market maker. For example `mmkr_01k0000000000000000000000a`."""
    pair: str
    """The pair. For example `GOLD-AITBC`."""
    spread_basis_points: int
    """Between its best bid and its best ask, in 1/10 000 of the price. For example `100`."""
    depth: int
    """How many prices of each side it quotes. For example `3`."""
    size: str
    """How much of `base` it quotes at each price. For example `1`."""
    base_limit: str
    """The most of `base` that lies in its orders. For example `10`."""
    quote_limit: str
    """The most of `quote` that lies in its orders. For example `25`."""
    state: Annotated[str, one_of(MAKER_STATES)]
    """`running` or `stopped`."""
    reason: Annotated[str, one_of(MAKER_REASONS)] | None
    """Why it quotes nothing though it runs: nobody ever named a price, the money is used up, or the pair is halted."""
    open_orders: int
    """How many orders of it rest. For example `6`."""
    bought: str
    """How much of `base` it bought. For example `4`."""
    sold: str
    """How much of `base` it sold. For example `3`."""
    base_change: str
    """What the account has more, or less, of `base` by it, after fees. For example `0.98`."""
    quote_change: str
    """What the account has more, or less, of `quote` by it, after fees. For example `-2.4`."""
    result: str | None
    """Both together in `quote`, at the price of the last trade; null where nothing was traded. For example `0.05`."""
    created_at: datetime
    """When it was made."""
    changed_at: datetime
    """When it was last started, stopped or changed."""


class ExchangeTrade(Struct, frozen=True, kw_only=True):
    """Two orders that met, whoever they are of."""

    id: str
    """The trade. For example `trde_01k0000000000000000000000a`."""
    number: int
    """The how-manieth trade of its pair it is. For example `12`."""
    price: str
    """At which price. For example `2.45`."""
    quantity: str
    """How much. For example `4`."""
    cost: str
    """What it cost, in `quote`. For example `9.8`."""
    taker_side: Annotated[str, one_of(SIDES)]
    """Whether the order that came last bought or sold."""
    at: datetime
    """When it was traded."""


class BookLevel(Struct, frozen=True, kw_only=True):
    """All that rests on one side at one price."""

    price: str
    """The price. For example `2.45`."""
    quantity: str
    """How much rests there. For example `40`."""
    orders: int
    """Of how many orders. For example `3`."""


class ExchangeBook(Struct, frozen=True, kw_only=True):
    """What rests, by price."""

    pair: str
    """The pair. For example `GOLD-AITBC`."""
    events: int
    """How many events this book has had: of two answers the one with more is the newer. For example `41`."""
    bids: list[BookLevel]
    """What is wanted, the highest price first."""
    asks: list[BookLevel]
    """What is for sale, the lowest price first."""


class ExchangeCandle(Struct, frozen=True, kw_only=True):
    """The trades of one stretch of time, summed; a stretch without a trade has none."""

    begins_at: datetime
    """When it begins."""
    open: str
    """The price of the first trade. For example `2.4`."""
    high: str
    """The highest price. For example `2.6`."""
    low: str
    """The lowest price. For example `2.3`."""
    close: str
    """The price of the last trade. For example `2.45`."""
    volume: str
    """How much was traded, in `base`. For example `120`."""
    turnover: str
    """What that cost, in `quote`. For example `300`."""
    trades: int
    """How many trades there were. For example `17`."""


class ExchangeStats(Struct, frozen=True, kw_only=True):
    """What a pair did in the last 24 hours: from trades only, null where there was none."""

    pair: str
    """The pair. For example `GOLD-AITBC`."""
    last: str | None
    """The price of the last trade that there ever was. For example `2.45`."""
    bid: str | None
    """The highest price that is given now. For example `2.4`."""
    ask: str | None
    """The lowest price that is taken now. For example `2.5`."""
    open: str | None
    """The price of the first trade of these 24 hours. For example `2.3`."""
    high: str | None
    """The highest price of these 24 hours. For example `2.6`."""
    low: str | None
    """The lowest price of these 24 hours. For example `2.2`."""
    volume: str
    """How much was traded, in `base`. For example `120`."""
    turnover: str
    """What that cost, in `quote`. For example `300`."""
    trades: int
    """How many trades there were. For example `17`."""

"""The book of a pair: pure, so that the same events lead to the same trades and the same book.

An order takes what rests on the other side at the price that rests there, the best first, of equal ones the oldest.
What is left of a limit order may rest. Nobody trades with themselves: what is left of an order ends where it would.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.matching import How, Matched, Order, match

FILLS_MAX = 200
"""What is left of an order ends after so many fills."""


class OrderPlaced(Struct, frozen=True, kw_only=True, tag="order_placed"):
    """Somebody wants to buy or to sell."""

    order: str
    owner: str
    side: Literal["buy", "sell"]
    price_units: int | None
    """None takes any price, and never rests."""
    quantity_units: int
    lasts: str
    post_only: bool = False

    def taking(self, place: int) -> Order:
        """As it is matched."""
        return Order(
            id=self.order,
            owner=self.owner,
            is_buy=self.side == "buy",
            price_units=self.price_units,
            quantity=self.quantity_units,
            place=place,
        )

    def how(self) -> How:
        """How it is matched."""
        return How(lasts=self.lasts, post_only=self.post_only, fills_max=FILLS_MAX)


class OrderEnded(Struct, frozen=True, kw_only=True, tag="order_ended"):
    """What was left of an order was taken back."""

    order: str


ExchangeEvent = OrderPlaced | OrderEnded


class OrderBook:
    """What rests, as the events so far have left it."""

    def __init__(self) -> None:
        self.resting: dict[str, Order] = {}
        self.events = 0

    def apply(self, event: ExchangeEvent) -> Matched:
        """Let an event happen."""
        self.events += 1
        if isinstance(event, OrderEnded):
            self.resting.pop(event.order, None)
            return Matched()
        taker = event.taking(self.events)
        matched = match(taker, self.resting.values(), event.how())
        for fill in matched.fills:
            maker = self.resting[fill.maker]
            if maker.quantity == fill.quantity:
                del self.resting[fill.maker]
            else:
                self.resting[fill.maker] = msgspec.structs.replace(maker, quantity=maker.quantity - fill.quantity)
        if matched.rests:
            self.resting[taker.id] = msgspec.structs.replace(taker, quantity=matched.left)
        return matched


def event_text(event: ExchangeEvent) -> str:
    """An event as the log keeps it."""
    return msgspec.json.encode(event, order="deterministic").decode()


def replayed(texts: Iterable[str]) -> OrderBook:
    """The book that the events of a log lead to."""
    book = OrderBook()
    for text in texts:
        book.apply(msgspec.json.decode(text, type=ExchangeEvent))
    return book

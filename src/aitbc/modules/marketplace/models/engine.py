"""The engine that matches bids with offers: pure, so that the same events lead to the same trades and the same book.

An offer is an ask that its owner stands by. A bid that fits asks at once takes the cheapest, of two equal ones the
older, each at what it asks. What is left of it may rest; an ask that arrives later goes to the resting bid that names
the most, of two equal ones the older, and at what that bid names. Nobody trades with themselves. A request collects
asks that are made for it alone, and takes the cheapest when its time is over.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.matching import How, Order, match


class Ask(Struct, frozen=True, kw_only=True):
    """What an owner asks for an hour of a miner."""

    offer: str
    owner: str
    price_units: int
    since: datetime
    """Since when it asks that: of two equal asks the older comes first."""


class Bid(Struct, frozen=True, kw_only=True):
    """What a payer would give for an hour of a miner, for so many miners."""

    bid: str
    payer: str
    limit_units: int
    quantity: int
    lasts: str = "gtc"
    post_only: bool = False
    """Refused where it would take something at once."""


class BidPlaced(Struct, frozen=True, kw_only=True, tag="bid_placed"):
    """A bid came, while these asks fitted it."""

    bid: Bid
    asks: tuple[Ask, ...]


class AskArrived(Struct, frozen=True, kw_only=True, tag="ask_arrived"):
    """An ask came, or was free again, that fits these resting bids."""

    ask: Ask
    fits: tuple[str, ...]


class BidEnded(Struct, frozen=True, kw_only=True, tag="bid_ended"):
    """What was left of a bid or a request was taken back."""

    bid: str


class RequestOpened(Struct, frozen=True, kw_only=True, tag="request_opened"):
    """Somebody asks owners for asks."""

    bid: Bid


class RequestQuoted(Struct, frozen=True, kw_only=True, tag="request_quoted"):
    """An owner asks a price for a request; of one offer the newest holds."""

    bid: str
    ask: Ask


class RequestClosed(Struct, frozen=True, kw_only=True, tag="request_closed"):
    """The time of a request is over, while these offers can still be had."""

    bid: str
    free: tuple[str, ...]


BookEvent = BidPlaced | AskArrived | BidEnded | RequestOpened | RequestQuoted | RequestClosed


class Trade(Struct, frozen=True, kw_only=True):
    """A bid got an offer at a price of an hour."""

    bid: str
    offer: str
    price_units: int


class Outcome(Struct, frozen=True, kw_only=True):
    """What an event led to."""

    trades: tuple[Trade, ...] = ()
    rests: int = 0
    """How much of the bid is left and stays."""
    refusal: str | None = None
    """Why a bid was refused as a whole: `would_take` or `not_filled`."""


class Engine:
    """The book: what rests, as the events so far have left it."""

    def __init__(self) -> None:
        self.resting: dict[str, tuple[Bid, int]] = {}
        """Bids with what is left of each, the oldest first."""
        self.requests: dict[str, tuple[Bid, dict[str, Ask]]] = {}
        """Requests with the asks made for each, the oldest first."""

    def apply(self, event: BookEvent) -> Outcome:
        """Let an event happen."""
        match event:
            case BidPlaced():
                return self._place(event.bid, event.asks)
            case AskArrived():
                return self._arrive(event.ask, event.fits)
            case BidEnded():
                self.resting.pop(event.bid, None)
                self.requests.pop(event.bid, None)
                return Outcome()
            case RequestOpened():
                self.requests[event.bid.bid] = (event.bid, {})
                return Outcome(rests=event.bid.quantity)
            case RequestQuoted():
                return self._quote(event.bid, event.ask)
            case RequestClosed():
                return self._close(event.bid, event.free)

    def _place(self, bid: Bid, asks: Iterable[Ask]) -> Outcome:
        how = How(lasts=bid.lasts, post_only=bid.post_only, skips_own=True)
        matched = match(_buying(bid, bid.quantity), map(_selling, asks), how)
        if matched.rests:
            self.resting[bid.bid] = (bid, matched.left)
        trades = tuple(Trade(bid=bid.bid, offer=fill.maker, price_units=fill.price_units) for fill in matched.fills)
        return Outcome(trades=trades, rests=matched.left if matched.rests else 0, refusal=matched.reason)

    def _arrive(self, ask: Ask, fits: Iterable[str]) -> Outcome:
        named = set(fits)
        waiting = [
            _buying(bid, left, place) for place, (bid, left) in enumerate(self.resting.values()) if bid.bid in named
        ]
        matched = match(_selling(ask), waiting, How(skips_own=True))
        if not matched.fills:
            return Outcome()
        fill = matched.fills[0]
        best, before = self.resting[fill.maker]
        if before > 1:
            self.resting[best.bid] = (best, before - 1)
        else:
            del self.resting[best.bid]
        trade = Trade(bid=best.bid, offer=ask.offer, price_units=fill.price_units)
        return Outcome(trades=(trade,), rests=before - 1)

    def _quote(self, bid: str, ask: Ask) -> Outcome:
        request, asks = self.requests[bid]
        if ask.owner != request.payer and ask.price_units <= request.limit_units:
            asks.pop(ask.offer, None)
            asks[ask.offer] = ask
        return Outcome(rests=request.quantity)

    def _close(self, bid: str, free: Iterable[str]) -> Outcome:
        request, asks = self.requests.pop(bid)
        can_be_had = set(free)
        taken = [_selling(ask) for ask in asks.values() if ask.offer in can_be_had]
        matched = match(_buying(request, request.quantity), taken, How(lasts="ioc", skips_own=True))
        return Outcome(
            trades=tuple(Trade(bid=bid, offer=fill.maker, price_units=fill.price_units) for fill in matched.fills)
        )


def event_text(event: BookEvent) -> str:
    """An event as the log keeps it."""
    return msgspec.json.encode(event, order="deterministic").decode()


def event_of(text: str) -> BookEvent:
    """An event of the log."""
    event: BookEvent = msgspec.json.decode(text, type=BookEvent)
    return event


def replayed(texts: Iterable[str]) -> Engine:
    """The book that the events of a log lead to."""
    engine = Engine()
    for text in texts:
        engine.apply(event_of(text))
    return engine


def _buying(bid: Bid, quantity: int, place: int = 0) -> Order:
    return Order(id=bid.bid, owner=bid.payer, is_buy=True, price_units=bid.limit_units, quantity=quantity, place=place)


def _selling(ask: Ask) -> Order:
    return Order(id=ask.offer, owner=ask.owner, is_buy=False, price_units=ask.price_units, quantity=1, place=ask.since)

"""The engine of bids: against an oracle that was written from the rules alone, and the same for the same events."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.modules.marketplace.models.engine import (
    Ask,
    AskArrived,
    Bid,
    BidEnded,
    BidPlaced,
    BookEvent,
    Engine,
    Outcome,
    RequestClosed,
    RequestOpened,
    RequestQuoted,
    event_of,
    event_text,
    replayed,
)
from tests.scale import scaled

START = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = ("ann", "bob", "cid")
Told = tuple[list[tuple[str, str, int]], str | None]


def an_ask(offer: int, owner: str, price: int, age: int = 0) -> Ask:
    return Ask(offer=f"o{offer}", owner=owner, price_units=price, since=START - timedelta(seconds=age))


def a_bid(number: int, payer: str, limit: int, quantity: int = 1, lasts: str = "gtc", **how: Any) -> Bid:
    return Bid(bid=f"b{number}", payer=payer, limit_units=limit, quantity=quantity, lasts=lasts, **how)


def trades(outcome: Outcome) -> list[tuple[str, str, int]]:
    return [(one.bid, one.offer, one.price_units) for one in outcome.trades]


class Oracle:
    """The rules said again in another way: a list of bids, looked through one miner at a time."""

    def __init__(self) -> None:
        self.bids: list[list[Any]] = []
        """Each with its payer, its limit and what is left, in the order in which they came."""
        self.requests: dict[str, list[Any]] = {}

    def told(self, event: BookEvent) -> Told:
        """What must come of an event."""
        return getattr(self, f"_{type(event).__name__}")(event)  # type: ignore[no-any-return]

    def _BidPlaced(self, event: BidPlaced) -> Told:  # noqa: N802
        bid, pool = event.bid, list(event.asks)
        done: list[tuple[str, str, int]] = []
        while len(done) < bid.quantity:
            best = None
            for ask in pool:
                if ask.owner == bid.payer or ask.price_units > bid.limit_units:
                    continue
                if best is None or (ask.price_units, ask.since, ask.offer) < (
                    best.price_units,
                    best.since,
                    best.offer,
                ):
                    best = ask
            if best is None:
                break
            pool.remove(best)
            done.append((bid.bid, best.offer, best.price_units))
        if bid.post_only and done:
            return [], "would_take"
        if bid.lasts == "fok" and len(done) < bid.quantity:
            return [], "not_filled"
        if bid.lasts == "gtc" and len(done) < bid.quantity:
            self.bids.append([bid.bid, bid.payer, bid.limit_units, bid.quantity - len(done)])
        return done, None

    def _AskArrived(self, event: AskArrived) -> Told:  # noqa: N802
        best: list[Any] | None = None
        for row in self.bids:
            name, payer, limit, _ = row
            if name not in event.fits or payer == event.ask.owner or limit < event.ask.price_units:
                continue
            if best is None or limit > best[2]:
                best = row
        if best is None:
            return [], None
        best[3] -= 1
        self.bids = [row for row in self.bids if row[3]]
        return [(best[0], event.ask.offer, best[2])], None

    def _BidEnded(self, event: BidEnded) -> Told:  # noqa: N802
        self.bids = [row for row in self.bids if row[0] != event.bid]
        self.requests.pop(event.bid, None)
        return [], None

    def _RequestOpened(self, event: RequestOpened) -> Told:  # noqa: N802
        self.requests[event.bid.bid] = [event.bid, []]
        return [], None

    def _RequestQuoted(self, event: RequestQuoted) -> Told:  # noqa: N802
        request, asks = self.requests[event.bid]
        if event.ask.owner != request.payer and event.ask.price_units <= request.limit_units:
            asks[:] = [ask for ask in asks if ask.offer != event.ask.offer] + [event.ask]
        return [], None

    def _RequestClosed(self, event: RequestClosed) -> Told:  # noqa: N802
        request, asks = self.requests.pop(event.bid)
        wanted = BidPlaced(
            bid=Bid(
                bid=event.bid,
                payer=request.payer,
                limit_units=request.limit_units,
                quantity=request.quantity,
                lasts="ioc",
            ),
            asks=tuple(ask for ask in asks if ask.offer in event.free),
        )
        return self._BidPlaced(wanted)


ASKS = st.builds(an_ask, st.integers(0, 9), st.sampled_from(PEOPLE), st.integers(1, 5), st.integers(0, 3))
FEW_ASKS = st.lists(ASKS, max_size=5, unique_by=lambda ask: ask.offer).map(tuple)
WISHES = st.tuples(
    st.sampled_from(PEOPLE), st.integers(1, 5), st.integers(1, 3), st.sampled_from(("gtc", "ioc", "fok")), st.booleans()
)


@st.composite
def stories(draw: st.DrawFn) -> list[BookEvent]:
    """Any events that can follow each other."""
    events: list[BookEvent] = []
    bids: list[str] = []
    requests: list[str] = []
    for number in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(("bid", "bid", "ask", "ask", "end", "request", "quote", "close")))
        if kind in ("bid", "request"):
            payer, limit, quantity, lasts, post = draw(WISHES)
            bid = a_bid(number, payer, limit, quantity, lasts, post_only=post)
            if kind == "bid":
                events.append(BidPlaced(bid=bid, asks=draw(FEW_ASKS)))
                bids.append(bid.bid)
            else:
                events.append(RequestOpened(bid=bid))
                requests.append(bid.bid)
        elif kind == "ask":
            events.append(AskArrived(ask=draw(ASKS), fits=tuple(draw(st.sets(st.sampled_from([*bids, "b"]))))))
        elif kind == "end" and bids:
            events.append(BidEnded(bid=draw(st.sampled_from(bids))))
        elif kind == "quote" and requests:
            events.append(RequestQuoted(bid=draw(st.sampled_from(requests)), ask=draw(ASKS)))
        elif kind == "close" and requests:
            closing = draw(st.sampled_from(requests))
            requests.remove(closing)
            events.append(RequestClosed(bid=closing, free=tuple(f"o{one}" for one in draw(st.sets(st.integers(0, 9))))))
    return events


@settings(max_examples=scaled(150, 5_000), deadline=None)
@given(stories())
def test_the_engine_does_what_the_rules_say_and_a_replay_of_its_log_leads_to_the_same_book(
    events: list[BookEvent],
) -> None:
    engine, oracle = Engine(), Oracle()
    for event in events:
        outcome = engine.apply(event)
        assert (trades(outcome), outcome.refusal) == oracle.told(event), event
    assert [(bid.bid, left) for bid, left in engine.resting.values()] == [(row[0], row[3]) for row in oracle.bids]
    again = replayed([event_text(event) for event in events])
    assert (again.resting, again.requests) == (engine.resting, engine.requests)
    assert [event_of(event_text(event)) for event in events] == events


@pytest.mark.parametrize(
    ("bid", "expected", "refusal", "left"),
    [
        (a_bid(1, "ann", 4), [("b1", "o2", 2)], None, 0),
        (a_bid(1, "ann", 4, 3), [("b1", "o2", 2), ("b1", "o3", 3)], None, 1),
        (a_bid(1, "ann", 4, 3, "ioc"), [("b1", "o2", 2), ("b1", "o3", 3)], None, 0),
        (a_bid(1, "ann", 4, 3, "fok"), [], "not_filled", 0),
        (a_bid(1, "ann", 4, 2, "fok"), [("b1", "o2", 2), ("b1", "o3", 3)], None, 0),
        (a_bid(1, "ann", 4, 1, post_only=True), [], "would_take", 0),
        (a_bid(1, "bob", 1), [], None, 1),
        (a_bid(1, "bob", 1, post_only=True), [], None, 1),
    ],
)
def test_a_bid_takes_the_cheapest_and_its_kind_says_what_becomes_of_the_rest(
    bid: Bid, expected: list[tuple[str, str, int]], refusal: str | None, left: int
) -> None:
    engine = Engine()
    asks = (an_ask(1, "ann", 2), an_ask(2, "bob", 2), an_ask(3, "bob", 3), an_ask(4, "cid", 9))
    outcome = engine.apply(BidPlaced(bid=bid, asks=asks))
    assert (trades(outcome), outcome.refusal, outcome.rests) == (expected, refusal, left)
    assert sum(rest for _, rest in engine.resting.values()) == left


def test_an_ask_goes_to_who_names_the_most_and_of_equals_to_the_older_at_what_that_one_names() -> None:
    engine = Engine()
    for bid in (a_bid(1, "ann", 2), a_bid(2, "bob", 4), a_bid(3, "ann", 4, 2)):
        engine.apply(BidPlaced(bid=bid, asks=()))
    every = ("b1", "b2", "b3")
    told = [trades(engine.apply(AskArrived(ask=an_ask(n, "cid", 2), fits=every))) for n in range(5)]
    assert told == [[("b2", "o0", 4)], [("b3", "o1", 4)], [("b3", "o2", 4)], [("b1", "o3", 2)], []]
    engine.apply(BidPlaced(bid=a_bid(4, "cid", 9), asks=()))
    assert not engine.apply(AskArrived(ask=an_ask(1, "cid", 1), fits=("b4",))).trades  # its own


def test_a_request_takes_the_cheapest_that_can_still_be_had_when_its_time_is_over() -> None:
    engine = Engine()
    engine.apply(RequestOpened(bid=a_bid(1, "ann", 5)))
    for ask in (an_ask(1, "bob", 2), an_ask(2, "cid", 3), an_ask(3, "cid", 9), an_ask(4, "ann", 1)):
        assert not engine.apply(RequestQuoted(bid="b1", ask=ask)).trades
    engine.apply(RequestQuoted(bid="b1", ask=an_ask(1, "bob", 4)))
    closed = engine.apply(RequestClosed(bid="b1", free=("o1", "o2", "o3", "o4")))
    assert trades(closed) == [("b1", "o2", 3)] and not engine.requests

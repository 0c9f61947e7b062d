"""The relay: an event is delivered only if its change was committed, and handled once however often it is delivered."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from structlog.testing import capture_logs

from aitbc.kernel.database.outbox import ATTEMPTS_MAX, Event, outbox_values, publish_many
from aitbc.kernel.database.unit_of_work import Connection, Database, Target, UnitOfWork
from aitbc.kernel.events.relay import BACKOFF_SECONDS_MAX, EventHandler, Handler, Relay, backoff, set_based
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.ids import decode, new_id
from aitbc.server.admin.operations import EventNotDead, EventNotFound, EventNotStuck, Operations
from tests.kernel.probe import ThingCounted, ThingRow, probe_database

ADMIN = Principal("acct_a", "key_a", "admin", frozenset({"*"}))


@pytest.fixture
def target(new_database: Callable[[], Target]) -> Target:
    """A fresh database for each test: what one leaves undelivered is none of another's business."""
    return new_database()


async def count(uow: UnitOfWork, events: Sequence[ThingCounted]) -> None:
    """Handle events by counting in the row, in a unit of work."""
    for event in events:
        await uow.session.execute(update(ThingRow).where(ThingRow.id == event.thing).values(count=ThingRow.count + 1))


@set_based
async def count_at_once(connection: Connection, events: Sequence[ThingCounted]) -> None:
    """Handle events by counting in the rows, in one statement."""
    await connection.execute(
        "UPDATE probe.things t SET count = t.count + v.times FROM ("
        "SELECT id, count(*) AS times FROM unnest($1::uuid[]) AS id GROUP BY id) AS v WHERE t.id = v.id",
        [decode("thing", event.thing) for event in events],
    )


BOTH_WAYS = pytest.mark.parametrize("handler", [count, count_at_once], ids=["ordinary", "set_based"])


async def a_thing(db: Database, *, tell: int = 1) -> str:
    """A thing, with this many events published about it."""
    thing = new_id("thing")
    async with db.unit_of_work() as uow:
        uow.add(ThingRow(id=thing, name=thing, count=0))
        for _ in range(tell):
            uow.publish(ThingCounted(thing=thing))
    return thing


async def counted(db: Database, thing: str) -> int:
    """How many events about the thing were handled."""
    async with db.reading() as session:
        return (await session.scalars(select(ThingRow.count).where(ThingRow.id == thing))).one()


@BOTH_WAYS
async def test_an_event_is_heard_once_even_when_delivered_again(target: Target, handler: Handler) -> None:
    async with probe_database(target) as db:
        relay = Relay(db, {ThingCounted.kind: [EventHandler(db, "probe.count", handler)]})
        thing = await a_thing(db, tell=3)
        await relay.deliver_due()
        assert await counted(db, thing) == 3
        async with db.unit_of_work() as uow:
            await uow.session.execute(text("UPDATE probe.outbox SET delivered_at = NULL, due_at = now()"))
        await relay.deliver_due()
        assert await counted(db, thing) == 3


@BOTH_WAYS
async def test_what_a_failing_hearer_did_is_undone_with_its_mark_in_the_inbox(target: Target, handler: Handler) -> None:
    async with probe_database(target) as db:
        is_well = False

        async def sometimes(way: Any, events: Sequence[ThingCounted]) -> None:
            await handler(way, events)
            if not is_well:
                raise RuntimeError("after the work")

        hearer = EventHandler(db, "probe.sometimes", set_based(sometimes) if handler is count_at_once else sometimes)
        relay = Relay(db, {ThingCounted.kind: [hearer]})
        thing = await a_thing(db)
        await relay.deliver_due()
        assert await counted(db, thing) == 0
        is_well = True
        clock.move(timedelta(seconds=5))
        try:
            await relay.deliver_due()
        finally:
            clock.reset()
        assert await counted(db, thing) == 1


async def test_three_relays_never_share_an_event(target: Target) -> None:
    async with probe_database(target, pool_size=6) as db:
        relays = [Relay(db, {ThingCounted.kind: [EventHandler(db, "probe.count", count)]}) for _ in range(3)]
        things = [await a_thing(db) for _ in range(20)]
        taken = await asyncio.gather(*(relay.deliver_due() for relay in relays))
        assert sum(taken) == 20
        assert [await counted(db, thing) for thing in things] == [1] * 20


async def figures(operations: Operations) -> dict[tuple[str, str | None], float]:
    """The figures of the events, by metric and state."""
    families = await operations.measure()
    return {(one.name, sample.labels.get("state")): sample.value for one in families for sample in one.samples}


async def test_events_that_wait_are_counted_and_how_late_the_first_is(new_database: Callable[[], Target]) -> None:
    async with probe_database(new_database()) as db:
        operations = Operations({"probe": db})
        assert set((await figures(operations)).values()) == {0}
        await a_thing(db)
        clock.move(timedelta(seconds=90))
        late = await figures(operations)
        clock.reset()
        assert late["aitbc_events", "pending"] == 1
        assert 90 <= late["aitbc_event_delay_seconds", None] < 150
        await Relay(db, {ThingCounted.kind: [EventHandler(db, "probe.count", count)]}).deliver_due()
        assert (await figures(operations))["aitbc_events", "pending"] == 0


async def test_a_failing_hearer_is_tried_again_and_holds_up_no_other(target: Target) -> None:
    async with probe_database(target) as db:
        calls = 0

        async def fail(uow: UnitOfWork, events: Sequence[ThingCounted]) -> None:
            nonlocal calls
            calls += 1
            raise RuntimeError("not today")

        event_handlers = [EventHandler(db, "probe.fail", fail), EventHandler(db, "probe.count", count)]
        relay = Relay(db, {ThingCounted.kind: event_handlers})
        thing = await a_thing(db)
        await relay.deliver_due()
        assert await counted(db, thing) == 1
        assert await relay.deliver_due() == 0
        for _ in range(ATTEMPTS_MAX):
            clock.move(timedelta(seconds=2**ATTEMPTS_MAX + 60))
            await relay.deliver_due()
        clock.reset()
        assert await counted(db, thing) == 1
        operations = Operations({"probe": db})
        [dead] = await operations.events(state="dead", module=None, limit=10, before=None)
        assert dead.attempts == ATTEMPTS_MAX
        assert "not today" in (dead.last_error or "")
        assert (await figures(operations))["aitbc_events", "dead"] >= 1
        calls_before = calls
        await operations.replay(ADMIN, dead.id)
        await relay.deliver_due()
        assert calls > calls_before
        with pytest.raises(EventNotDead):
            await operations.replay(ADMIN, dead.id)
        with pytest.raises(EventNotFound):
            await operations.replay(ADMIN, new_id("evt"))


async def test_one_event_that_no_longer_decodes_does_not_stop_the_rest(target: Target) -> None:
    async with probe_database(target) as db:
        relay = Relay(db, {ThingCounted.kind: [EventHandler(db, "probe.count", count)]})
        thing = await a_thing(db, tell=2)
        async with db.unit_of_work() as uow:
            await uow.session.execute(
                text(
                    "UPDATE probe.outbox SET body = '{}' WHERE id = "
                    "(SELECT id FROM probe.outbox WHERE delivered_at IS NULL ORDER BY id LIMIT 1)"
                )
            )
        await relay.deliver_due()
        assert await counted(db, thing) == 1


async def test_a_set_based_command_tells_in_its_transaction(target: Target) -> None:
    async with probe_database(target) as db:
        relay = Relay(db, {ThingCounted.kind: [EventHandler(db, "probe.count", count)]})
        thing = await a_thing(db, tell=0)
        with pytest.raises(RuntimeError):  # noqa: PT012
            async with db.raw_transaction() as connection:
                await publish_many(connection, "probe", [ThingCounted(thing=thing)])
                raise RuntimeError("on purpose")
        async with db.raw_transaction() as connection:
            await publish_many(connection, "probe", [ThingCounted(thing=thing)] * 2)
            await publish_many(connection, "probe", [ThingCounted(thing=thing)], delay=timedelta(seconds=60))
        await relay.deliver_due()
        assert await counted(db, thing) == 2


async def test_the_relay_wakes_at_the_commit(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.kernel.events.relay.IDLE_SECONDS", 300.0)  # by itself it would look much later
    async with probe_database(target) as db:
        relay = Relay(db, {ThingCounted.kind: [EventHandler(db, "probe.count", count)]})
        task = asyncio.create_task(relay.run())
        await asyncio.sleep(0.1)
        thing = await a_thing(db)
        for _ in range(1500):
            if await counted(db, thing):
                break
            await asyncio.sleep(0.02)
        task.cancel()
        assert await counted(db, thing) == 1


class MoneyMoved(Event, frozen=True, kw_only=True):
    """An event that somebody's money waits for."""

    kind: ClassVar[str] = "probe.money_moved"
    is_critical: ClassVar[bool] = True
    thing: str


async def test_an_event_that_money_waits_for_outlives_ten_attempts_and_raises_an_alarm(target: Target) -> None:
    async with probe_database(target) as db:
        is_away = True
        handled: list[str] = []

        async def handle(uow: UnitOfWork, events: Sequence[MoneyMoved]) -> None:
            if is_away:
                raise RuntimeError("away")
            handled.extend(event.thing for event in events)

        relay = Relay(db, {MoneyMoved.kind: [EventHandler(db, "probe.handle", handle)]})
        async with db.unit_of_work() as uow:
            uow.publish(MoneyMoved(thing="paid"))
        operations = Operations({"probe": db})
        with capture_logs() as logged:
            for _ in range(ATTEMPTS_MAX + 3):
                assert await relay.deliver_due() == 1
                clock.move(timedelta(seconds=BACKOFF_SECONDS_MAX + 1))
        alarms = [line for line in logged if line["event"] == "event_stuck"]
        assert [line["attempts"] for line in alarms] == [ATTEMPTS_MAX + number for number in range(4)]
        assert {(line["log_level"], line["kind"]) for line in alarms} == {("error", MoneyMoved.kind)}
        found = await figures(operations)
        assert (found["aitbc_events_stuck", None], found["aitbc_events", "dead"]) == (1, 0)
        is_away = False
        assert await relay.deliver_due() == 1
        clock.reset()
        assert handled == ["paid"]
        assert (await figures(operations))["aitbc_events_stuck", None] == 0


async def test_an_operator_ends_a_stuck_event_and_no_attempt_under_way_brings_it_back(
    new_database: Callable[[], Target],
) -> None:
    async with probe_database(new_database()) as db:
        operations, ends = Operations({"probe": db}), [False]

        class Failing:
            """A subscriber that never succeeds, and meets the operator while it tries."""

            name = "probe.fail"

            async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
                if ends[0]:
                    ends[0] = False
                    await operations.end(ADMIN, stuck.id, "its hold is gone")
                raise RuntimeError("never")

        relay = Relay(db, {MoneyMoved.kind: [Failing()]})
        async with db.unit_of_work() as uow:
            uow.publish(MoneyMoved(thing="paid"))
        for tries in range(ATTEMPTS_MAX):
            [event] = await operations.events(state="pending", module=None, limit=9, before=None)
            assert (event.state, event.attempts) == ("pending", tries)
            with pytest.raises(EventNotStuck):
                await operations.end(ADMIN, event.id, "too early")
            assert await relay.deliver_due() == 1
            clock.move(timedelta(seconds=BACKOFF_SECONDS_MAX + 1))
        [stuck] = await operations.events(state="stuck", module=None, limit=9, before=None)
        assert (stuck.state, stuck.attempts) == ("stuck", ATTEMPTS_MAX)
        ends[0] = True
        await relay.deliver_due()
        clock.move(timedelta(seconds=BACKOFF_SECONDS_MAX + 1))
        assert await relay.deliver_due() == 0
        [dead] = await operations.events(state="dead", module=None, limit=9, before=None)
        assert dead.id == stuck.id
        assert (await figures(operations))["aitbc_events_stuck", None] == 0
        [entry] = await operations.audit(module=None, limit=9, after=None, action="event.end")
        assert (entry.object, entry.details["reason"]) == (stuck.id, "its hold is gone")
        with pytest.raises(EventNotStuck):
            await operations.end(ADMIN, stuck.id, "again")
        with pytest.raises(EventNotFound):
            await operations.end(ADMIN, new_id("evt"), "unknown")
        await operations.replay(ADMIN, stuck.id)  # it may be tried again after all
        assert await relay.deliver_due() == 1
        clock.reset()


def test_no_pause_between_attempts_grows_for_ever() -> None:
    assert [backoff(attempts).total_seconds() for attempts in (1, 2, 9, 10, 10**9)] == [2, 4, 512, 600, 600]


async def test_after_a_clock_that_was_ahead_events_do_not_wait_for_tomorrow(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.kernel.events.relay.CLOCK_CHECK_SECONDS", -1.0)
    fails = [True]

    async def failing(uow: UnitOfWork, events: Sequence[ThingCounted]) -> None:
        if fails[0]:
            raise RuntimeError("on purpose")
        await count(uow, events)

    async with probe_database(target) as db:
        relay = Relay(db, {ThingCounted.kind: [EventHandler(db, "probe.count", failing)]})
        try:
            clock.move(timedelta(days=1))
            tried, fresh = await a_thing(db), await a_thing(db)
            await relay.deliver_due()
        finally:
            clock.reset()
        fails[0] = False
        await a_thing(db)
        await relay.deliver_due()
        assert (await counted(db, tried), await counted(db, fresh)) == (1, 1)
        later = await a_thing(db)  # what waits for its next attempt goes on to wait
        async with db.raw() as connection:
            await connection.execute(
                "UPDATE probe.outbox SET due_at = $1 WHERE delivered_at IS NULL", clock.now() + timedelta(seconds=600)
            )
        await relay.deliver_due()
        assert await counted(db, later) == 0


def test_what_is_delayed_is_due_at_one_moment_with_what_came_in_the_same_second() -> None:
    (at_once,) = outbox_values([ThingCounted(thing=new_id("thing"))])
    assert at_once["due_at"] == at_once["created_at"]
    (later,) = outbox_values([ThingCounted(thing=new_id("thing"))], delay=timedelta(seconds=5))
    assert later["due_at"].microsecond == 0
    assert timedelta(seconds=4) < later["due_at"] - later["created_at"] <= timedelta(seconds=5)

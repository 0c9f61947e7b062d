"""Events and wake-ups over NATS: handled once, confirmed after the commit, and never lost with the server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import nats
import pytest
from nats.js.api import Header

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database, Target, UnitOfWork
from aitbc.kernel.events.relay import EventHandler, Relay
from aitbc.kernel.events.wakeup import Wakeup
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.secret import Secret
from aitbc.server.cluster import nats_events
from aitbc.server.cluster.nats import CONSUMER, SIGNATURE, NatsBus, reason_of, servers_of
from aitbc.server.cluster.nats_events import (
    KIND,
    PUBLISHED_AT,
    PUBLISHER,
    NatsEventBus,
    NatsEventTransport,
    NatsSubscriber,
)
from aitbc.server.config.settings import NatsSettings
from tests.kernel.events.test_relay import a_thing, count, counted
from tests.kernel.probe import ThingCounted, probe_database
from tests.nats_server import NatsServer

SECRET = b"the secret of one installation"
WITHIN = 30.0
OPEN = "SELECT count(*) FROM probe.outbox WHERE delivered_at IS NULL"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running server."""
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def target(new_database: Callable[[], Target]) -> Target:
    """A fresh database for each test."""
    return new_database()


class Direct:
    """Direct delivery to a handler: it counts what came by it."""

    def __init__(self, handler: EventHandler) -> None:
        self.name = handler.name
        self.handler = handler
        self.came: list[UUID] = []

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """As over a socket."""
        self.came += [id_ for id_, _ in events]
        await self.handler.receive(events)


@asynccontextmanager
async def process(
    server: NatsServer, *event_handlers: EventHandler, secret: bytes = SECRET
) -> AsyncIterator[NatsEventTransport]:
    """One process with a bus, and handlers or none."""
    bus = NatsBus(NatsSettings(url=Secret(server.url)), secret, ["probe"])
    events = NatsEventTransport(bus, {handler.name: handler for handler in event_handlers})
    await bus.start()
    running = asyncio.create_task(events.run())
    try:
        yield events
    finally:
        running.cancel()
        await bus.stop()


async def until(holds: Callable[[], Any]) -> None:
    """Until it holds."""
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_the_bus_carries(db: Database, relay: Relay, publisher: NatsEventTransport) -> None:
    """Until an event goes over the bus again; before, each goes the direct way."""
    async with asyncio.timeout(WITHIN):
        before = publisher.bus.events_sent["bus"]
        while publisher.bus.events_sent["bus"] == before:
            await asyncio.sleep(0.1)
            publisher._bypass_until = 0.0
            await a_thing(db, tell=2)
            await relay.deliver_due()


async def test_events_go_over_the_bus_and_are_delivered_once_they_are_heard(server: NatsServer, target: Target) -> None:
    async with probe_database(target) as db:
        handler = EventHandler(db, "probe.count", count)
        direct = Direct(handler)
        async with process(server), process(server, handler), process(server) as publisher:
            await until(lambda: publisher.bus.carries_events)
            relay = Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, direct)]})
            thing = await a_thing(db, tell=20)
            assert await relay.deliver_due() == 20
            assert await counted(db, thing) == 20
            assert await relay.deliver_due() == 0
            assert publisher.bus.events_sent == {"bus": 20, "direct": 0}
            assert direct.came == []


async def test_two_processes_of_a_module_take_turns_and_each_event_is_heard_once(
    server: NatsServer, target: Target
) -> None:
    async with probe_database(target) as db:
        handled: dict[str, int] = {"one": 0, "two": 0}

        def handler(name: str) -> EventHandler:
            async def hear(uow: UnitOfWork, events: Sequence[ThingCounted]) -> None:
                handled[name] += len(events)
                await count(uow, events)

            return EventHandler(db, "probe.count", hear)

        one, two = handler("one"), handler("two")
        async with process(server, one), process(server, two), process(server) as publisher:
            await until(lambda: publisher.bus.carries_events)
            relay = Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, Direct(one))]})
            thing = await a_thing(db, tell=60)
            await relay.deliver_due()
            assert await counted(db, thing) == sum(handled.values()) == 60
            assert min(handled.values()) > 0


async def test_without_a_server_events_go_the_direct_way_at_once(server: NatsServer, target: Target) -> None:
    server.kill()
    async with probe_database(target) as db, process(server) as publisher:
        direct = Direct(EventHandler(db, "probe.count", count))
        thing = await a_thing(db, tell=3)
        async with asyncio.timeout(20):
            await Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, direct)]}).deliver_due()
        assert await counted(db, thing) == 3
        assert publisher.bus.events_sent == {"bus": 0, "direct": 3}


async def test_a_server_that_comes_late_or_has_forgotten_everything_is_used_again(
    server: NatsServer, target: Target
) -> None:
    server.kill()
    async with probe_database(target) as db:
        handler = EventHandler(db, "probe.count", count)
        async with process(server, handler), process(server) as publisher:
            relay = Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, Direct(handler))]})
            for _ in range(2):
                assert not publisher.bus.is_connected
                server.forget()
                server.start()
                await until(lambda: publisher.bus.carries_events)
                thing = await a_thing(db, tell=2)
                before = publisher.bus.events_sent["bus"]
                await relay.deliver_due()
                assert await counted(db, thing) == 2
                # The hearer may have come back a moment later than the teller: then the direct way was taken.
                if publisher.bus.events_sent["bus"] == before:
                    await until_the_bus_carries(db, relay, publisher)
                server.kill()
                await until(lambda: not publisher.bus.is_connected)


async def test_a_stream_that_somebody_removed_is_made_again(server: NatsServer, target: Target) -> None:
    async with probe_database(target) as db:
        handler = EventHandler(db, "probe.count", count)
        async with process(server, handler), process(server) as publisher:
            await until(lambda: publisher.bus.carries_events)
            stranger = await nats.connect(server.url)
            await stranger.jetstream().delete_stream(str(publisher.bus.stream_of("probe").name))
            relay = Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, Direct(handler))]})
            thing = await a_thing(db, tell=2)
            await relay.deliver_due()
            assert await counted(db, thing) == 2
            assert publisher.bus.events_sent == {"bus": 0, "direct": 2}
            await until_the_bus_carries(db, relay, publisher)
            await stranger.close()


async def test_nobody_at_the_stream_means_the_direct_way_and_what_lies_there_is_heard_once(
    server: NatsServer, target: Target
) -> None:
    async with probe_database(target) as db:
        handler = EventHandler(db, "probe.count", count)
        async with process(server) as publisher:
            await until(lambda: publisher.bus.carries_events)
            relay = Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, Direct(handler))]})
            thing = await a_thing(db, tell=3)
            await relay.deliver_due()
            assert publisher.bus.events_sent == {"bus": 0, "direct": 3}
            async with process(server, handler):
                stranger = await nats.connect(server.url)
                stream = str(publisher.bus.stream_of("probe").name)
                async with asyncio.timeout(WITHIN):
                    while (await stranger.jetstream().stream_info(stream)).state.messages:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                await stranger.close()
            assert await counted(db, thing) == 3


async def test_what_a_hearer_refuses_is_told_to_the_relay_by_the_direct_way(
    server: NatsServer, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_events, "CONFIRM_SECONDS", 60.0)
    async with probe_database(target) as db:
        is_well = False

        async def sometimes(uow: UnitOfWork, events: Sequence[ThingCounted]) -> None:
            await count(uow, events)
            if not is_well:
                raise RuntimeError("after the work")

        handler = EventHandler(db, "probe.sometimes", sometimes)
        async with process(server, handler), process(server) as publisher:
            await until(lambda: publisher.bus.carries_events)
            relay = Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, Direct(handler))]})
            thing = await a_thing(db)
            async with asyncio.timeout(30):  # nobody waits for a confirmation that will not come
                await relay.deliver_due()
            assert await counted(db, thing) == 0
            async with db.raw() as connection:
                assert "after the work" in await connection.fetchval("SELECT last_error FROM probe.outbox")
                await connection.execute("UPDATE probe.outbox SET due_at = now()")
            is_well = True
            await relay.deliver_due()
            assert await counted(db, thing) == 1


async def test_a_server_killed_while_events_are_on_their_way_loses_and_doubles_none(
    server: NatsServer, target: Target
) -> None:
    async with probe_database(target) as db:

        async def slowly(uow: UnitOfWork, events: Sequence[ThingCounted]) -> None:
            await count(uow, events)
            await asyncio.sleep(0.05)

        handler = EventHandler(db, "probe.slowly", slowly)
        async with process(server, handler), process(server) as publisher:
            await until(lambda: publisher.bus.carries_events)
            relay = asyncio.create_task(
                Relay(db, {ThingCounted.kind: [NatsSubscriber(publisher, Direct(handler))]}).run()
            )
            things = []
            for round_ in range(6):
                things += [await a_thing(db, tell=5) for _ in range(5)]
                await asyncio.sleep(0.05 * round_)
                server.kill()
                if round_ % 2:
                    server.forget()
                things += [await a_thing(db, tell=5) for _ in range(5)]
                server.start()
            async with asyncio.timeout(60), db.raw() as connection:
                while await connection.fetchval(OPEN):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            relay.cancel()
            assert [await counted(db, thing) for thing in things] == [5] * len(things)


async def test_what_does_not_carry_our_mark_is_neither_heard_nor_believed(server: NatsServer, target: Target) -> None:
    async with probe_database(target) as db:
        handler = EventHandler(db, "probe.count", count)
        thing = await a_thing(db, tell=0)
        async with process(server, handler) as far, process(server) as publisher:
            await until(lambda: publisher.bus.carries_events and far.bus.carries_events)
            stranger = await nats.connect(server.url)
            body = json.dumps({"thing": thing}).encode()
            about = {
                Header.MSG_ID.value: str(new_uuid()),
                KIND: ThingCounted.kind,
                PUBLISHER: "x",
                PUBLISHED_AT: "9999999999",
            }
            for sign in (
                "",
                "0" * 64,
                NatsBus(NatsSettings(url=Secret(server.url)), b"another", []).sign(b"probe.count"),
            ):
                about[Header.MSG_ID.value] = str(new_uuid())
                told = about | {SIGNATURE: sign}
                await stranger.jetstream().publish(publisher.bus.subject("events.probe.count"), body, headers=told)
            # A confirmation of a stranger for an event that nobody has heard.
            event, id_ = ThingCounted(thing=thing), new_uuid()
            awaited = asyncio.create_task(publisher.deliver("probe.never", [(id_, event)]))
            await asyncio.sleep(0.2)
            lie = json.dumps({"handler": "probe.never", "ids": [str(id_)], "ok": True}).encode()
            await stranger.publish(
                publisher.bus.subject(f"heard.{publisher.bus.instance_id}"), lie, headers={SIGNATURE: "0" * 64}
            )
            assert await awaited == [(id_, event)]
            assert await counted(db, thing) == 0
            await stranger.close()


async def test_an_event_that_is_said_again_much_later_is_not_heard(server: NatsServer, target: Target) -> None:
    async with probe_database(target) as db:
        handler = EventHandler(db, "probe.count", count)
        async with process(server, handler) as far, process(server) as publisher:
            await until(lambda: publisher.bus.carries_events and far.bus.carries_events)
            thing = await a_thing(db, tell=0)
            told = [(new_uuid(), ThingCounted(thing=thing))]
            sealed: list[tuple[str, bytes, Any]] = []

            async def keep(subject: str, body: bytes, headers: Any) -> bool:
                sealed.append((subject, body, headers))
                return False

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(publisher.bus, "publish_to_stream", keep)  # a server that writes down what it is given
                clock.move(timedelta(hours=-2))
                assert await publisher.deliver("probe.count", told) == told
                clock.reset()
            assert await publisher.bus.publish_to_stream(*sealed[0])
            await asyncio.sleep(0.5)
            assert await counted(db, thing) == 0


async def test_installations_that_share_a_server_hear_nothing_of_each_other(server: NatsServer, target: Target) -> None:
    async with probe_database(target) as db:
        handler = EventHandler(db, "probe.count", count)
        async with process(server, handler, secret=b"another"), process(server) as publisher:
            await until(lambda: publisher.bus.carries_events)
            thing = await a_thing(db, tell=0)
            told = [(new_uuid(), ThingCounted(thing=thing))]
            assert await publisher.deliver("probe.count", told) == told
            assert await counted(db, thing) == 0


async def test_stream_and_consumer_stand_as_the_code_says(server: NatsServer) -> None:
    async with process(server) as publisher:
        await until(lambda: publisher.bus.carries_events)
        stranger = await nats.connect(server.url)
        wanted = publisher.bus.stream_of("probe")
        stands = (await stranger.jetstream().stream_info(str(wanted.name))).config
        for name in ("subjects", "retention", "storage", "discard", "max_age", "max_bytes", "duplicate_window"):
            assert getattr(stands, name) == getattr(wanted, name), name
        consumer = (await stranger.jetstream().consumer_info(str(wanted.name), CONSUMER)).config
        for name in ("deliver_subject", "deliver_group", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending"):
            assert getattr(consumer, name) == getattr(publisher.bus.consumer_of("probe"), name), name
        await stranger.close()


async def test_news_goes_over_the_bus_and_by_the_database_while_the_server_is_away(
    server: NatsServer, target: Target
) -> None:
    async with probe_database(target) as db, probe_database(target) as other, db.listener() as watching:
        looked, notified = asyncio.Event(), asyncio.Event()

        async def look() -> None:
            looked.set()

        await watching.add_listener("aitbc_probe", lambda *_: notified.set())
        buses = [NatsEventBus(NatsSettings(url=Secret(server.url)), SECRET, []) for _ in range(2)]
        here, there = Wakeup(db, buses[0]), Wakeup(other, buses[1])
        for bus in buses:
            await bus.start()
        tasks = [asyncio.create_task(here.run_sender()), asyncio.create_task(there.listen(look))]
        try:
            await until(lambda: all(bus.is_connected for bus in buses))
            async with asyncio.timeout(30):
                while not looked.is_set():  # until the listener listens by both ways
                    here.notify()
                    await asyncio.sleep(0.1)
            await asyncio.sleep(0.1)
            assert not notified.is_set()
            looked.clear()
            server.kill()
            await until(lambda: not buses[0].is_connected)
            here.notify()
            async with asyncio.timeout(30):
                await looked.wait()
                await notified.wait()
        finally:
            for task in tasks:
                task.cancel()
            for bus in buses:
                await bus.stop()


@pytest.mark.parametrize(
    "url",
    ["nats://db.example.org:4222", "http://localhost:4222", "localhost:4222", "nats://", "nats://localhost:99999"],
)
def test_a_server_that_is_none_or_would_be_reached_in_the_clear_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        servers_of(url)


def test_servers_of_a_cluster_are_named_with_commas() -> None:
    assert servers_of("tls://a.example.org:4222, tls://b.example.org:4222") == [
        "tls://a.example.org:4222",
        "tls://b.example.org:4222",
    ]


def test_the_doctor_is_told_why_a_server_would_carry_nothing(server: NatsServer) -> None:
    settings = NatsSettings(url=Secret(server.url))
    assert reason_of(settings) is None
    server.kill()
    assert "no server answers" in str(reason_of(settings))

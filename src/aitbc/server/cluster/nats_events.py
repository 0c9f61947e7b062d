"""Events over the bus: given to the stream of whoever hears them, heard there, and confirmed to whoever told them.

A row of the outbox counts as delivered only when its hearer has said so, after its commit. What is not confirmed in time, or
is refused, goes the direct way: the inbox sees to it that what arrives by both is heard once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.api import Header

from aitbc.kernel.database.outbox import Event, decode, encode
from aitbc.kernel.events.relay import EventHandler, Subscriber
from aitbc.kernel.primitives.clock import now
from aitbc.server.cluster.nats import AWAY, HEARER, KEPT_SECONDS, MARK, NatsBus

HEARD_SECONDS = 2.0
"""How long a confirmation may take."""
REST_SECONDS = 10.0
"""How long events go the direct way after nothing was confirmed in time: nobody may be there to hear the stream."""
TOGETHER_MAX = 500
KIND, TELLER, AT = "Aitbc-Kind", "Aitbc-Teller", "Aitbc-At"

log = structlog.get_logger("aitbc.bus")
Events = Sequence[tuple[UUID, Event]]


class Heard(Struct, frozen=True):
    """What a hearer says of events: that they are heard and committed, or that it could not."""

    handler: str
    ids: tuple[UUID, ...]
    ok: bool


class _Awaited:
    """Events of one telling that nothing is known of yet."""

    def __init__(self, ids: set[UUID]) -> None:
        self.open = ids
        self.heard: set[UUID] = set()
        self.done = asyncio.Event()

    def settle(self, id_: UUID, *, ok: bool) -> None:
        """One of them is known: heard, or not to be waited for."""
        if id_ in self.open:
            self.open.discard(id_)
            if ok:
                self.heard.add(id_)
        if not self.open:
            self.done.set()


class NatsEvents:
    """Both ends of the way, for one process."""

    def __init__(self, bus: NatsBus, event_handlers: Mapping[str, EventHandler]) -> None:
        """`event_handlers` are those of this process, by name."""
        self.bus = bus
        self._hearers = event_handlers
        self._awaited: dict[tuple[str, UUID], _Awaited] = {}
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._rests_until = 0.0
        bus.subscribe(f"heard.{bus.me}", self._confirmed)
        for module in sorted({name.partition(".")[0] for name in event_handlers}):
            bus.subscribe(f"deliver.{module}", self._arrives, group=HEARER)

    def subscriber(self, direct: Subscriber) -> "NatsSubscriber":
        """The subscriber for a handler in another process: over the bus, and over `direct` what the bus did not deliver."""
        return NatsSubscriber(self, direct)

    # The teller's end

    async def deliver(self, handler: str, events: Events) -> Events:
        """Publish events to the stream of their handler, and wait for its confirmation; returns those to deliver directly."""
        loop = asyncio.get_running_loop()
        if not events or not self.bus.carries or loop.time() < self._rests_until:
            return events
        awaited = _Awaited({id_ for id_, _ in events})
        keys = [(handler, id_) for id_, _ in events]
        self._awaited.update(dict.fromkeys(keys, awaited))
        try:
            given = await asyncio.gather(*(self._give(handler, id_, event) for id_, event in events))
            for (id_, _), taken in zip(events, given, strict=True):
                if not taken:
                    awaited.settle(id_, ok=False)
            async with asyncio.timeout(HEARD_SECONDS):
                await awaited.done.wait()
        except TimeoutError:
            if not awaited.heard:
                self._rests_until = loop.time() + REST_SECONDS
            log.warning("bus_events_unheard", hearer=handler, count=len(awaited.open), meaning="they go the direct way")
        finally:
            for key in keys:
                self._awaited.pop(key, None)
        self.bus.ways["bus"] += len(awaited.heard)
        return [one for one in events if one[0] not in awaited.heard]

    async def _give(self, handler: str, id_: UUID, event: Event) -> bool:
        body = encode(event).encode()
        about = {
            Header.MSG_ID.value: str(id_),
            KIND: event.kind,
            TELLER: self.bus.me,
            AT: str(int(now().timestamp())),
        }
        about[MARK] = self.bus.mark(handler.encode(), *(value.encode() for value in about.values()), body)
        return await self.bus.publish_to_stream(f"events.{handler}", body, about)

    async def _confirmed(self, message: Msg) -> None:
        if not self.bus.is_ours(message, self.bus.me.encode(), message.data):
            log.warning("bus_confirmation_refused", subject=message.subject)
            return
        heard = msgspec.json.decode(message.data, type=Heard)
        for id_ in heard.ids:
            awaited = self._awaited.get((heard.handler, id_))
            if awaited is not None:
                awaited.settle(id_, ok=heard.ok)

    # The hearer's end

    async def _arrives(self, message: Msg) -> None:
        self._arrived.put_nowait(message)

    async def run(self) -> None:
        """Hear what arrives for this process, for ever."""
        while True:
            messages = [await self._arrived.get()]
            while not self._arrived.empty() and len(messages) < TOGETHER_MAX:
                messages.append(self._arrived.get_nowait())
            by_hearer: dict[tuple[str, str], list[tuple[UUID, Event, Msg]]] = defaultdict(list)
            for message in messages:
                arrived = self._read(message)
                if arrived is None:
                    await _end(message)
                else:
                    handler, teller, id_, event = arrived
                    by_hearer[handler, teller].append((id_, event, message))
            for (handler, teller), group in by_hearer.items():
                await self._hear(handler, teller, group)

    def _read(self, message: Msg) -> tuple[str, str, UUID, Event] | None:
        """What a message says; none for one that is not ours, too old, or for nobody here."""
        handler = _handler_of(message)
        headers = message.headers or {}
        names = (Header.MSG_ID.value, KIND, TELLER, AT)
        told = [headers.get(name, "") for name in names]
        try:
            if not self.bus.is_ours(message, handler.encode(), *(value.encode() for value in told), message.data):
                raise ValueError("it does not carry our mark")
            ident, kind, teller, at = told
            if int(at) < now().timestamp() - KEPT_SECONDS:  # older ones may have been forgotten by the inbox
                raise ValueError("it is too old")
            if handler not in self._hearers:
                raise ValueError("nobody of that name is here")
            return handler, teller, UUID(ident), decode(kind, message.data.decode())
        except (ValueError, KeyError, msgspec.MsgspecError) as error:
            log.warning("bus_event_refused", hearer=handler, reason=str(error))
            return None

    async def _hear(self, handler: str, teller: str, group: Sequence[tuple[UUID, Event, Msg]]) -> None:
        """Hear events of one teller together, and say how that went; what is refused is the outbox's to try again."""
        ok = True
        try:
            await self._hearers[handler].receive([(id_, event) for id_, event, _ in group])
        except Exception as error:  # noqa: BLE001 - whatever a handler dies of, the direct way will meet it again
            log.warning("bus_events_refused", hearer=handler, count=len(group), reason=repr(error))
            ok = False
        for _, _, message in group:
            await _end(message, heard=ok)
        body = msgspec.json.encode(Heard(handler, tuple(id_ for id_, _, _ in group), ok))
        await self.bus.publish(f"heard.{teller}", body, {MARK: self.bus.mark(teller.encode(), body)})


class NatsEventBus(NatsBus):
    """A NATS connection that also carries events."""

    def event_transport(self, handlers: Mapping[str, EventHandler]) -> NatsEvents:
        """The transport of events to and from the handlers of this process."""
        return NatsEvents(self, handlers)


class NatsSubscriber:
    """A handler of a module in another process: told over the bus, and directly what did not get there so."""

    def __init__(self, transport: NatsEvents, direct: Subscriber) -> None:
        self.name = direct.name
        self._transport = transport
        self._direct = direct

    async def receive(self, events: Events) -> None:
        """Deliver events there; when this returns, they are handled and committed."""
        left = await self._transport.deliver(self.name, events)
        if left:
            await self._direct.receive(left)
            self._transport.bus.ways["direct"] += len(left)


def _handler_of(message: Msg) -> str:
    """The name of a handler, from the end of the subject that leads to it."""
    return ".".join(message.subject.split(".")[-2:])


async def _end(message: Msg, *, heard: bool = False) -> None:
    """Take a message out of its stream; one whose server has left meanwhile comes again, and is known then."""
    with suppress(*AWAY):
        await (message.ack() if heard else message.term())

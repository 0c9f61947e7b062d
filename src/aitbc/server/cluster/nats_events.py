"""Event transport over NATS JetStream: published to the stream of the handler's module, and confirmed after its commit.

An outbox row counts as delivered only once its handler has confirmed it, after the commit. What is not confirmed in
time, or fails, is delivered directly: the inbox makes sure that an event that arrives by both ways is handled once.
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
from aitbc.server.cluster.nats import CONSUMER, MAX_AGE_SECONDS, NATS_ERRORS, SIGNATURE, NatsBus

CONFIRM_SECONDS = 2.0
"""How long a confirmation may take."""
BYPASS_SECONDS = 10.0
"""How long the bus is bypassed after nothing was confirmed in time: the stream may have no consumer."""
BATCH_MAX = 500
KIND, PUBLISHER, PUBLISHED_AT = "Aitbc-Kind", "Aitbc-Teller", "Aitbc-At"

log = structlog.get_logger("aitbc.bus")
Events = Sequence[tuple[UUID, Event]]


class Confirmation(Struct, frozen=True):
    """A handler's confirmation of events: that they are handled and committed, or that it failed."""

    handler: str
    ids: tuple[UUID, ...]
    ok: bool


class _PendingEvents:
    """The events of one delivery that are not confirmed yet."""

    def __init__(self, ids: set[UUID]) -> None:
        self.unconfirmed = ids
        self.confirmed: set[UUID] = set()
        self.done = asyncio.Event()

    def settle(self, id_: UUID, *, ok: bool) -> None:
        """Settle one event: confirmed, or not to be waited for."""
        if id_ in self.unconfirmed:
            self.unconfirmed.discard(id_)
            if ok:
                self.confirmed.add(id_)
        if not self.unconfirmed:
            self.done.set()


class NatsEventTransport:
    """The event transport of one process: publishes its own events, and handles those of others."""

    def __init__(self, bus: NatsBus, event_handlers: Mapping[str, EventHandler]) -> None:
        """`event_handlers` are those of this process, by name."""
        self.bus = bus
        self._handlers = event_handlers
        self._pending: dict[tuple[str, UUID], _PendingEvents] = {}
        self._received: asyncio.Queue[Msg] = asyncio.Queue()
        self._bypass_until = 0.0
        bus.subscribe(f"heard.{bus.instance_id}", self._on_confirmation)
        for module in sorted({name.partition(".")[0] for name in event_handlers}):
            bus.subscribe(f"deliver.{module}", self._on_event, group=CONSUMER)

    def subscriber(self, direct: Subscriber) -> "NatsSubscriber":
        """The subscriber for a handler in another process; `direct` gets what the bus did not deliver."""
        return NatsSubscriber(self, direct)

    # Publishing

    async def deliver(self, handler: str, events: Events) -> Events:
        """Publish events to their stream, and wait for confirmation; returns those that must be delivered directly."""
        loop = asyncio.get_running_loop()
        if not events or not self.bus.carries_events or loop.time() < self._bypass_until:
            return events
        pending = _PendingEvents({id_ for id_, _ in events})
        keys = [(handler, id_) for id_, _ in events]
        self._pending.update(dict.fromkeys(keys, pending))
        try:
            published = await asyncio.gather(*(self._publish(handler, id_, event) for id_, event in events))
            for (id_, _), is_published in zip(events, published, strict=True):
                if not is_published:
                    pending.settle(id_, ok=False)
            async with asyncio.timeout(CONFIRM_SECONDS):
                await pending.done.wait()
        except TimeoutError:
            if not pending.confirmed:
                self._bypass_until = loop.time() + BYPASS_SECONDS
            log.warning(
                "bus_events_unconfirmed",
                handler=handler,
                count=len(pending.unconfirmed),
                meaning="they are delivered directly",
            )
        finally:
            for key in keys:
                self._pending.pop(key, None)
        self.bus.events_sent["bus"] += len(pending.confirmed)
        return [one for one in events if one[0] not in pending.confirmed]

    async def _publish(self, handler: str, id_: UUID, event: Event) -> bool:
        body = encode(event).encode()
        headers = {
            Header.MSG_ID.value: str(id_),
            KIND: event.kind,
            PUBLISHER: self.bus.instance_id,
            PUBLISHED_AT: str(int(now().timestamp())),
        }
        headers[SIGNATURE] = self.bus.sign(handler.encode(), *(value.encode() for value in headers.values()), body)
        return await self.bus.publish_to_stream(f"events.{handler}", body, headers)

    async def _on_confirmation(self, message: Msg) -> None:
        if not self.bus.is_signed(message, self.bus.instance_id.encode(), message.data):
            log.warning("bus_confirmation_refused", subject=message.subject)
            return
        confirmed = msgspec.json.decode(message.data, type=Confirmation)
        for id_ in confirmed.ids:
            pending = self._pending.get((confirmed.handler, id_))
            if pending is not None:
                pending.settle(id_, ok=confirmed.ok)

    # Handling

    async def _on_event(self, message: Msg) -> None:
        self._received.put_nowait(message)

    async def run(self) -> None:
        """Handle the events that arrive for this process in batches, until cancelled."""
        while True:
            messages = [await self._received.get()]
            while not self._received.empty() and len(messages) < BATCH_MAX:
                messages.append(self._received.get_nowait())
            by_handler: dict[tuple[str, str], list[tuple[UUID, Event, Msg]]] = defaultdict(list)
            for message in messages:
                decoded = self._decode(message)
                if decoded is None:
                    await _acknowledge(message)
                else:
                    handler, publisher, id_, event = decoded
                    by_handler[handler, publisher].append((id_, event, message))
            for (handler, publisher), group in by_handler.items():
                await self._handle(handler, publisher, group)

    def _decode(self, message: Msg) -> tuple[str, str, UUID, Event] | None:
        """Handler, publisher, id and event; none for a message that is not signed, too old, or has no handler here."""
        handler = _handler_of(message)
        headers = message.headers or {}
        names = (Header.MSG_ID.value, KIND, PUBLISHER, PUBLISHED_AT)
        values = [headers.get(name, "") for name in names]
        try:
            if not self.bus.is_signed(message, handler.encode(), *(value.encode() for value in values), message.data):
                raise ValueError("its signature is not ours")
            ident, kind, publisher, at = values
            if int(at) < now().timestamp() - MAX_AGE_SECONDS:  # older ones may have been forgotten by the inbox
                raise ValueError("it is too old")
            if handler not in self._handlers:
                raise ValueError("there is no handler of that name here")
            return handler, publisher, UUID(ident), decode(kind, message.data.decode())
        except (ValueError, KeyError, msgspec.MsgspecError) as error:
            log.warning("bus_event_refused", handler=handler, reason=str(error))
            return None

    async def _handle(self, handler: str, publisher: str, group: Sequence[tuple[UUID, Event, Msg]]) -> None:
        """Handle the events of one publisher together, and confirm the outcome; the outbox retries what failed."""
        ok = True
        try:
            await self._handlers[handler].receive([(id_, event) for id_, event, _ in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, direct delivery will meet it again
            log.warning("bus_events_refused", handler=handler, count=len(group), reason=repr(error))
            ok = False
        for _, _, message in group:
            await _acknowledge(message, confirmed=ok)
        body = msgspec.json.encode(Confirmation(handler, tuple(id_ for id_, _, _ in group), ok))
        await self.bus.publish(f"heard.{publisher}", body, {SIGNATURE: self.bus.sign(publisher.encode(), body)})


class NatsEventBus(NatsBus):
    """A NATS connection that also carries events."""

    def event_transport(self, handlers: Mapping[str, EventHandler]) -> NatsEventTransport:
        """The transport of events to and from the handlers of this process."""
        return NatsEventTransport(self, handlers)


class NatsSubscriber:
    """The subscriber of a handler in another process: over the bus, and directly what the bus did not deliver."""

    def __init__(self, transport: NatsEventTransport, direct: Subscriber) -> None:
        self.name = direct.name
        self._transport = transport
        self._direct = direct

    async def receive(self, events: Events) -> None:
        """Deliver events there; when this returns, they are handled and committed."""
        undelivered = await self._transport.deliver(self.name, events)
        if undelivered:
            await self._direct.receive(undelivered)
            self._transport.bus.events_sent["direct"] += len(undelivered)


def _handler_of(message: Msg) -> str:
    """The name of a handler: the last two parts of the subject."""
    return ".".join(message.subject.split(".")[-2:])


async def _acknowledge(message: Msg, *, confirmed: bool = False) -> None:
    """Remove a message from its stream.

    Lost when the server is away; the message comes again, and the inbox knows it.
    """
    with suppress(*NATS_ERRORS):
        await (message.ack() if confirmed else message.term())

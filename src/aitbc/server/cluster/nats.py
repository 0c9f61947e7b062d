"""The bus: a NATS server between the processes, for news and, with JetStream, for events on their way to another process.

Nothing depends on it. An event that it loses is still in the outbox of whoever told it and goes the direct way then; news
that it loses is found by whoever looks for itself every second. A NATS server may serve others too: names on it begin with
one that is derived from the installation's secret, and what matters is marked with a key that is derived from it.
"""

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NotFoundError
from prometheus_client import Metric

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.tasks import end
from aitbc.kernel.telemetry.metrics import counter, gauge
from aitbc.server.config.hosts import LOOPBACK
from aitbc.server.config.settings import NatsSettings

CONNECT_SECONDS = 2
RECONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0
"""How long JetStream may take to say that it has something."""
DEFINE_SECONDS = 2.0
"""How long to wait before streams that could not be made are tried again."""
PENDING_BYTES_MAX = 1 << 20
"""What is kept for a server that is away; news of then is worth nothing later."""

KEPT_SECONDS = 3600
"""How long an event may lie in a stream; its outbox row has long gone the direct way by then."""
STREAM_BYTES_MAX = 64 * 1024 * 1024
MESSAGE_BYTES_MAX = 128 * 1024
DUPLICATE_SECONDS = 120
"""For how long JetStream knows the id of an event again."""
HEARER = "hearers"
"""The durable consumer of each stream, and the group in which the processes of a module take turns."""
ACK_SECONDS = 30
DELIVERIES_MAX = 3
IN_HANDS_MAX = 1000

MARK = "Aitbc-Mark"
AWAY = (NatsError, OSError, TimeoutError)
"""What a call may die of when the server is away or does not know us."""

MessageHandler = Callable[[Msg], Awaitable[None]]
log = structlog.get_logger("aitbc.bus")


class NatsBus:
    """The connection of one process, made in the background and made again for as long as the process lives."""

    def __init__(self, settings: NatsSettings, secret: bytes, modules: Sequence[str]) -> None:
        """`modules` are those that hear something: each has a stream. Raises `ConfigError` for what cannot be used."""
        assert settings.url is not None
        self.me = str(new_uuid())
        self._prefix = f"aitbc.{hmac.digest(secret, b'name on the bus', hashlib.sha256).hex()[:12]}"
        self._key = hmac.digest(secret, b"marks on the bus", hashlib.sha256)
        self._servers = servers_of(settings.url.reveal())
        self._trust = _trust(settings, self._servers)
        self._replicas = settings.replicas
        self._modules = modules
        self._client = Client()
        self._jet: JetStreamContext = self._client.jetstream(timeout=ANSWER_SECONDS)
        self._subscriptions: list[tuple[str, str, MessageHandler]] = []
        self._fresh = asyncio.Event()
        """The server is a new one, or has forgotten: streams must be made."""
        self._has_streams = False
        self._was_connected = False
        self._tasks: list[asyncio.Task[None]] = []
        self.ways = {"bus": 0, "direct": 0}
        """How many events went to other processes, by the way that brought them there."""

    @property
    def is_connected(self) -> bool:
        """Whether the server is there."""
        return self._client.is_connected

    @property
    def carries(self) -> bool:
        """Whether events can go this way now."""
        return self._has_streams and self._client.is_connected

    def subscribe(self, subject: str, handler: MessageHandler, *, group: str = "") -> None:
        """Register a handler for a subject, before `start`; within a queue group each message goes to one subscriber only."""
        self._subscriptions.append((f"{self._prefix}.{subject}", group, handler))

    def subject(self, name: str) -> str:
        """A name of this installation, as it reads on the bus."""
        return f"{self._prefix}.{name}"

    def mark(self, *parts: bytes) -> str:
        """What shows that these parts come from this installation."""
        framed = b"".join(len(part).to_bytes(8) + part for part in parts)
        return hmac.new(self._key, framed, hashlib.sha256).hexdigest()

    def is_ours(self, message: Msg, *parts: bytes) -> bool:
        """Whether the message carries the mark of its parts."""
        told = (message.headers or {}).get(MARK, "")
        return hmac.compare_digest(told.encode(), self.mark(*parts).encode())

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Publish a message to the current subscribers, at most once; false while the server is not connected."""
        if not self._client.is_connected:
            return False
        with suppress(*AWAY):
            await self._client.publish(self.subject(subject), body, headers=dict(headers) if headers else None)
            return True
        return False

    async def publish_to_stream(self, subject: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Publish a message to its stream; false when the stream did not acknowledge it, or had its id already."""
        try:
            ack = await self._jet.publish(self.subject(subject), body, headers=dict(headers))
        except AWAY as error:
            if self._client.is_connected:  # it is the stream that is missing
                log.warning("bus_refused_event", reason=repr(error))
                self._fresh.set()
            return False
        return not ack.duplicate

    async def start(self) -> None:
        """Begin to connect; nobody waits for it."""
        self._tasks = [asyncio.create_task(self._keep())]

    async def stop(self) -> None:
        """Leave the server."""
        await end(self._tasks)
        with suppress(*AWAY):
            await self._client.close()

    async def _keep(self) -> None:
        await self._connect()
        for subject, group, handler in self._subscriptions:
            await self._client.subscribe(subject, queue=group, cb=handler)
        await self._came()
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            try:
                await self._make_streams()
                self._has_streams = True
            except AWAY as error:
                self._has_streams = False
                log.warning("bus_has_no_streams", reason=repr(error), meaning="events go the direct way")
                await asyncio.sleep(DEFINE_SECONDS)
                self._fresh.set()

    async def _connect(self) -> None:
        callbacks: dict[str, Any] = {
            "error_cb": self._failed,
            "disconnected_cb": self._left,
            "reconnected_cb": self._came,
        }
        times: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "reconnect_time_wait": RECONNECT_SECONDS}
        await self._client.connect(
            self._servers,
            name="aitbc",
            tls=self._trust,
            max_reconnect_attempts=-1,
            pending_size=PENDING_BYTES_MAX,
            **times,
            **callbacks,
        )

    async def _make_streams(self) -> None:
        for module in self._modules:
            stream = self.stream_of(module)
            try:
                await self._jet.add_stream(stream)
            except BadRequestError:  # it stands, as an older program made it
                await self._jet.update_stream(stream)
            assert stream.name is not None
            consumer = self.consumer_of(module)
            try:
                await self._jet.consumer_info(stream.name, HEARER)
            except NotFoundError:
                await self._jet.add_consumer(stream.name, consumer)

    def stream_of(self, module: str) -> api.StreamConfig:
        """The stream of the events that a module hears: each lies there until one of its processes has heard it."""
        return api.StreamConfig(
            name=f"{self._prefix}.{module}".replace(".", "-"),
            subjects=[self.subject(f"events.{module}.*")],
            retention=api.RetentionPolicy.WORK_QUEUE,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.OLD,
            max_age=KEPT_SECONDS,
            max_bytes=STREAM_BYTES_MAX,
            max_msg_size=MESSAGE_BYTES_MAX,
            duplicate_window=DUPLICATE_SECONDS,
            num_replicas=self._replicas,
        )

    def consumer_of(self, module: str) -> api.ConsumerConfig:
        """How the stream is heard: pushed to one process at a time, and to another when that one falls silent."""
        return api.ConsumerConfig(
            durable_name=HEARER,
            deliver_subject=self.subject(f"deliver.{module}"),
            deliver_group=HEARER,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_SECONDS,
            max_deliver=DELIVERIES_MAX,
            max_ack_pending=IN_HANDS_MAX,
        )

    async def _failed(self, error: Exception) -> None:
        log.debug("bus_failed", reason=repr(error))

    async def _left(self) -> None:
        if self._was_connected:  # it is said for every try that fails, too
            log.warning("bus_left", meaning="events go the direct way, news by the database")
        self._was_connected = False

    async def _came(self) -> None:
        log.info("bus_connected")
        self._was_connected = True
        self._fresh.set()

    async def measure(self) -> Sequence[Metric]:
        """Whether the server is there, and how events went."""
        connected = gauge("aitbc_bus_connected", "Whether the NATS server of this process is there.")
        connected.add_metric([], float(self.is_connected))
        events = counter("aitbc_bus_events_total", "Events brought to other processes, by way.", ("way",))
        for way, count in self.ways.items():
            events.add_metric([way], count)
        return [connected, events]


def servers_of(url: str) -> list[str]:
    """The servers that a setting names. Raises `ConfigError` for what is none, or would be reached in the clear."""
    servers = [server.strip() for server in url.split(",")]
    for server in servers:
        try:
            split = urlsplit(server)
            host, _ = split.hostname, split.port
        except ValueError:
            host = None
        if not host or split.scheme not in ("nats", "tls") or split.path.strip("/"):
            raise ConfigError("nats.url must read tls://user:password@host:4222, several of them with commas between")
        if split.scheme == "nats" and host not in LOOPBACK:
            raise ConfigError(
                f"nats.url: what is said on the bus would travel to {host} in the clear; write tls://, and name with "
                "nats.ca the certificate that vouches for it where the system does not know it"
            )
    return servers


def _trust(settings: NatsSettings, servers: Sequence[str]) -> ssl.SSLContext | None:
    if not any(server.startswith("tls://") for server in servers):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"nats.ca: {settings.ca} cannot be used ({getattr(error, 'reason', None) or error}); "
            "name a PEM file of certificates that this process may read"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def reason_of(settings: NatsSettings) -> str | None:
    """Why the bus of these settings would carry nothing, asked of the server itself; none when it would."""
    return asyncio.run(_ask(settings))


async def _ask(settings: NatsSettings) -> str | None:
    assert settings.url is not None
    servers = servers_of(settings.url.reveal())
    client = Client()
    said: list[Exception] = []

    async def failed(error: Exception) -> None:
        said.append(error)

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.connect(servers, tls=_trust(settings, servers), allow_reconnect=False, error_cb=failed)
    except AWAY as error:
        return f"no server answers: {said[-1] if said else error}"
    try:
        await client.jetstream(timeout=ANSWER_SECONDS).account_info()
    except AWAY as error:
        return f"a server answers, without JetStream: {error!r}"
    finally:
        await client.close()
    return None

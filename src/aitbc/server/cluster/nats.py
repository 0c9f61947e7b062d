"""The NATS client: wake-ups over core NATS, and with JetStream the streams of events between processes.

Nothing depends on it. An event that it loses is still in the outbox of its publisher and is delivered directly; a
wake-up that it loses is made up for by polling every second. A NATS server may serve others too: subjects begin with a
prefix that is derived from the installation's secret, and events and confirmations are signed with a key that is
derived from it.
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
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.kernel.telemetry.metrics import counter, gauge
from aitbc.server.config.hosts import LOOPBACK
from aitbc.server.config.settings import NatsSettings

CONNECT_SECONDS = 2
RECONNECT_SECONDS = 0.5
JETSTREAM_SECONDS = 1.0
"""How long JetStream may take to acknowledge a message."""
STREAMS_RETRY_SECONDS = 2.0
"""The pause before streams that could not be created are tried again."""
PENDING_BYTES_MAX = 1 << 20
"""How much is buffered while the server is away; old wake-ups are worth nothing later."""

MAX_AGE_SECONDS = 3600
"""How long an event may stay in a stream; by then its outbox row has long been delivered directly."""
STREAM_BYTES_MAX = 64 * 1024 * 1024
MESSAGE_BYTES_MAX = 128 * 1024
DUPLICATE_SECONDS = 120
"""JetStream's deduplication window for event ids."""
CONSUMER = "hearers"
"""The durable consumer of each stream, and the queue group of a module's processes."""
ACK_SECONDS = 30
DELIVERIES_MAX = 3
ACK_PENDING_MAX = 1000

SIGNATURE = "Aitbc-Mark"
NATS_ERRORS = (NatsError, OSError, TimeoutError)
"""What a call may raise when the server is away or refuses us."""

MessageHandler = Callable[[Msg], Awaitable[None]]
log = structlog.get_logger("aitbc.bus")


class NatsBus:
    """The NATS connection of one process, made in the background and remade for as long as the process lives."""

    def __init__(self, settings: NatsSettings, secret: bytes, modules: Sequence[str]) -> None:
        """`modules` are those that handle events: each has a stream.

        Raises `ConfigError` for settings that cannot be used.
        """
        assert settings.url is not None
        self.instance_id = str(new_uuid())
        self._prefix = f"aitbc.{hmac.digest(secret, b'name on the bus', hashlib.sha256).hex()[:12]}"
        self._key = hmac.digest(secret, b"marks on the bus", hashlib.sha256)
        self._servers = servers_of(settings.url.reveal())
        self._tls_context = _tls_context(settings, self._servers)
        self._replicas = settings.replicas
        self._modules = modules
        self._client = Client()
        self._jetstream: JetStreamContext = self._client.jetstream(timeout=JETSTREAM_SECONDS)
        self._subscriptions: list[tuple[str, str, MessageHandler]] = []
        self._needs_streams = asyncio.Event()
        """Set when the streams must be created: after a connect, or when one is missing."""
        self._has_streams = False
        self._was_connected = False
        self._tasks: list[asyncio.Task[None]] = []
        self.events_sent = {"bus": 0, "direct": 0}
        """Events sent to other processes, by transport."""

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up."""
        return self._client.is_connected

    @property
    def carries_events(self) -> bool:
        """Whether events can be published now: connected, and the streams exist."""
        return self._has_streams and self._client.is_connected

    def subscribe(self, subject: str, handler: MessageHandler, *, group: str = "") -> None:
        """Register a handler for a subject, before `start`; in a queue group each message goes to one subscriber."""
        self._subscriptions.append((f"{self._prefix}.{subject}", group, handler))

    def subject(self, name: str) -> str:
        """The full subject of a name: with the prefix of this installation."""
        return f"{self._prefix}.{name}"

    def sign(self, *parts: bytes) -> str:
        """The HMAC of these parts, which shows that they come from this installation."""
        framed = b"".join(len(part).to_bytes(8) + part for part in parts)
        return hmac.new(self._key, framed, hashlib.sha256).hexdigest()

    def is_signed(self, message: Msg, *parts: bytes) -> bool:
        """Whether the message carries the signature of its parts."""
        signature = (message.headers or {}).get(SIGNATURE, "")
        return hmac.compare_digest(signature.encode(), self.sign(*parts).encode())

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Publish a message to the current subscribers, at most once; false while the server is not connected."""
        if not self._client.is_connected:
            return False
        with suppress(*NATS_ERRORS):
            await self._client.publish(self.subject(subject), body, headers=dict(headers) if headers else None)
            return True
        return False

    async def publish_to_stream(self, subject: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Publish a message to its stream; false when the stream did not acknowledge it, or had its id already."""
        try:
            ack = await self._jetstream.publish(self.subject(subject), body, headers=dict(headers))
        except NATS_ERRORS as error:
            if self._client.is_connected:  # the stream is missing
                log.warning("bus_event_unaccepted", reason=repr(error))
                self._needs_streams.set()
            return False
        return not ack.duplicate

    async def start(self) -> None:
        """Begin to connect in the background."""
        self._tasks = [asyncio.create_task(self._run())]

    async def stop(self) -> None:
        """Disconnect."""
        await cancel_and_wait(self._tasks)
        with suppress(*NATS_ERRORS):
            await self._client.close()

    async def _run(self) -> None:
        await self._connect()
        for subject, group, handler in self._subscriptions:
            await self._client.subscribe(subject, queue=group, cb=handler)
        await self._on_connected()
        while True:
            await self._needs_streams.wait()
            self._needs_streams.clear()
            try:
                await self._make_streams()
                self._has_streams = True
            except NATS_ERRORS as error:
                self._has_streams = False
                log.warning("bus_streams_missing", reason=repr(error), meaning="events are delivered directly")
                await asyncio.sleep(STREAMS_RETRY_SECONDS)
                self._needs_streams.set()

    async def _connect(self) -> None:
        callbacks: dict[str, Any] = {
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_connected,
        }
        times: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "reconnect_time_wait": RECONNECT_SECONDS}
        await self._client.connect(
            self._servers,
            name="aitbc",
            tls=self._tls_context,
            max_reconnect_attempts=-1,
            pending_size=PENDING_BYTES_MAX,
            **times,
            **callbacks,
        )

    async def _make_streams(self) -> None:
        for module in self._modules:
            stream = self.stream_of(module)
            try:
                await self._jetstream.add_stream(stream)
            except BadRequestError:  # it exists, as an older version created it
                await self._jetstream.update_stream(stream)
            assert stream.name is not None
            consumer = self.consumer_of(module)
            try:
                await self._jetstream.consumer_info(stream.name, CONSUMER)
            except NotFoundError:
                await self._jetstream.add_consumer(stream.name, consumer)

    def stream_of(self, module: str) -> api.StreamConfig:
        """The work queue of the events that a module handles: each stays until one of its processes has handled it."""
        return api.StreamConfig(
            name=f"{self._prefix}.{module}".replace(".", "-"),
            subjects=[self.subject(f"events.{module}.*")],
            retention=api.RetentionPolicy.WORK_QUEUE,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.OLD,
            max_age=MAX_AGE_SECONDS,
            max_bytes=STREAM_BYTES_MAX,
            max_msg_size=MESSAGE_BYTES_MAX,
            duplicate_window=DUPLICATE_SECONDS,
            num_replicas=self._replicas,
        )

    def consumer_of(self, module: str) -> api.ConsumerConfig:
        """The push consumer of a stream: one process at a time, and another when that one does not acknowledge."""
        return api.ConsumerConfig(
            durable_name=CONSUMER,
            deliver_subject=self.subject(f"deliver.{module}"),
            deliver_group=CONSUMER,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_SECONDS,
            max_deliver=DELIVERIES_MAX,
            max_ack_pending=ACK_PENDING_MAX,
        )

    async def _on_error(self, error: Exception) -> None:
        log.debug("bus_failed", reason=repr(error))

    async def _on_disconnected(self) -> None:
        if self._was_connected:  # the client reports every failed attempt too
            log.warning("bus_disconnected", meaning="events are delivered directly, wake-ups go over the database")
        self._was_connected = False

    async def _on_connected(self) -> None:
        log.info("bus_connected")
        self._was_connected = True
        self._needs_streams.set()

    async def measure(self) -> Sequence[Metric]:
        """Metrics: whether the connection is up, and how many events went by each transport."""
        connected = gauge("aitbc_bus_connected", "Whether the NATS server of this process is there.")
        connected.add_metric([], float(self.is_connected))
        events = counter("aitbc_bus_events_total", "Events sent to other processes, by transport.", ("way",))
        for transport, count in self.events_sent.items():
            events.add_metric([transport], count)
        return [connected, events]


MALFORMED_URL = (
    "nats.url must read tls://user:password@host:4222, several of them with commas between; in a password "
    "write reserved letters percent-encoded: @ as %40, / as %2F, : as %3A, comma as %2C"
)
# Without the host: of a malformed URL it may be a piece of the password.
IN_THE_CLEAR = (
    "nats.url: what is said on the bus would travel to another machine in the clear; write tls://, and name with "
    "nats.ca the certificate that vouches for it where the system does not know it"
)


def servers_of(url: str) -> list[str]:
    """The servers of the setting `nats.url`. Raises `ConfigError` for a malformed one, or one reached in the clear."""
    servers = [server.strip() for server in url.split(",")]
    for server in servers:
        try:
            split = urlsplit(server)
            host, _ = split.hostname, split.port
        except ValueError:
            host = None
        if not host or split.scheme not in ("nats", "tls") or split.path.strip("/") or split[3:] != ("", ""):
            raise ConfigError(MALFORMED_URL)
        if split.scheme == "nats" and host not in LOOPBACK:
            raise ConfigError(IN_THE_CLEAR)
    return servers


def _tls_context(settings: NatsSettings, servers: Sequence[str]) -> ssl.SSLContext | None:
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
    """Why these settings give no working bus, as found by connecting; none when they do."""
    return asyncio.run(_check(settings))


async def _check(settings: NatsSettings) -> str | None:
    assert settings.url is not None
    servers = servers_of(settings.url.reveal())
    client = Client()
    errors: list[Exception] = []

    async def failed(error: Exception) -> None:
        errors.append(error)

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.connect(servers, tls=_tls_context(settings, servers), allow_reconnect=False, error_cb=failed)
    except NATS_ERRORS as error:
        return f"no server answers: {errors[-1] if errors else error}"
    try:
        await client.jetstream(timeout=JETSTREAM_SECONDS).account_info()
    except NATS_ERRORS as error:
        return f"a server answers, without JetStream: {error!r}"
    finally:
        await client.close()
    return None

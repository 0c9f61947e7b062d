"""The settings with their limits and defaults; each field's docstring is the help text of its setting."""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.primitives.secret import Secret
from aitbc.kernel.telemetry.logs import LogSettings

Address = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):[0-9]{1,5}$", max_length=262)]
"""`host:port`, an IPv6 host in brackets."""
BaseUrl = Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)]


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server listens, and what it lets in."""

    host: Annotated[str, Meta(min_length=1, max_length=255)] = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """0 takes any free port."""
    i_accept_plain_http: bool = False
    """Serve an address other than loopback without TLS: keys and results are then readable on the way."""
    tls_certificate: Path | None = None
    """The certificate with its chain, PEM."""
    tls_key: Path | None = None
    """Its unencrypted key, PEM, which others cannot read."""
    hosts: list[Annotated[str, Meta(min_length=1, max_length=255)]] = field(default_factory=list)
    """Names, besides loopback and `host`, that a request may give in its Host header."""
    origins: list[Annotated[str, Meta(pattern=r"^https?://[^/\s]+$")]] = field(default_factory=list)
    """Origins of foreign pages whose scripts may call this server and read its answers (CORS)."""
    security_contact: Annotated[str, Meta(pattern=r"^(mailto:|https://|tel:)[!-~]+$", max_length=512)] | None = None
    """Whom to write to about a weakness of this installation, as a URI: served as `/.well-known/security.txt`."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1 << 20
    """The longest JSON body of a request; uploads have limits of their own."""
    body_seconds: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """How long a client may take to send the body of a request."""
    head_seconds: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """How long a client may take to send the head of a request."""
    idle_seconds: Annotated[int, Meta(ge=1, le=3600)] = 65
    """How long a connection may stay open between two requests."""
    in_flight_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Requests answered at one time, without those that `poll_max` counts; one more is asked to come again."""
    poll_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """What waits or streams at one time (long polls, `wait`, runs, event streams, uploads, downloads, WebSockets),
    counted apart from other requests; one more is asked to come again."""
    drain_seconds: Annotated[int, Meta(ge=1, le=300)] = 8
    """How long requests may go on after the first signal to stop."""


class DatabaseSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which PostgreSQL, and how it is used. Without a URL the server brings and runs its own."""

    url: Secret | None = None
    """`postgresql://user:password@host:5432/database`."""
    provision: bool = True
    """Make the schemas and roles at the start; unset where a DBA has run `aitbc db provision --sql`."""
    pool_size: Annotated[int, Meta(ge=1, le=100)] = 3
    """Connections of each module."""
    acquire_seconds: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """How long a request may wait for a connection."""
    statement_seconds: Annotated[float, Meta(gt=0, le=600)] = 5.0
    """How long one statement, or one wait for a lock, may take."""


class GatewaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway: what it asks of callers of legacy paths, and where modules on other machines find its process."""

    require_auth: bool = False
    """Ask callers of legacy paths (`/gpu/…`) for `auth_key`. Its legacy variable is `API_GATEWAY_REQUIRE_AUTH`."""
    auth_key: Secret | None = None
    """What they send then as `Authorization: Bearer …`, and their own key as `X-Api-Key`.

    Legacy variable: `API_GATEWAY_KEY`.
    """
    breaker_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    """How long the paths of a module that failed five times in a row are refused before one request tries again."""
    url: BaseUrl | None = None
    """Where modules on other machines find this process: the outside of `inner`."""
    ca: Path | None = None
    """The certificates that may vouch for `url`, PEM; without it those that the system trusts."""
    inner: Address | None = None
    """`host:port` of its internal API, for modules on other machines; never one that callers know."""
    inner_certificate: Path | None = None
    """The certificate of the internal API with its chain, PEM; needed unless it is on loopback."""
    inner_key: Path | None = None
    """Its unencrypted key, PEM, which others cannot read."""


class NatsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A NATS server with JetStream between the processes of an installation; optional."""

    url: Secret | None = None
    """`tls://user:password@host:4222`, servers of a cluster separated by commas; `nats://` only on this machine."""
    ca: Path | None = None
    """The certificates that may vouch for the server, PEM; without it those that the system trusts."""
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """How many servers of a cluster keep the events that are on their way."""


class WebhookSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to receivers of webhooks, and where they may be."""

    allow_private: bool = False
    """Send to loopback and private networks too, over plain http and to any port.

    Whoever may create an endpoint then reaches what this machine reaches.
    """
    ports: list[Annotated[int, Meta(ge=1, le=65535)]] = field(default_factory=lambda: [443, 8443])
    """The ports of receivers that are sent to."""
    endpoints_max: Annotated[int, Meta(ge=1, le=1000)] = 20
    """How many endpoints an account may have."""
    in_flight_max: Annotated[int, Meta(ge=0, le=10_000)] = 200
    """Messages that this process has on their way at one time; 0 leaves the sending to other processes."""
    kept_days: Annotated[int, Meta(ge=1, le=365)] = 7
    """How long the log keeps what was delivered, or given up."""


class TraceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Traces for a collector of OpenTelemetry; needs the extra `otlp`."""

    endpoint: BaseUrl | None = None
    """Where a collector takes traces by OTLP over HTTP: `http://127.0.0.1:4318/v1/traces`; else there are none."""
    authorization: Secret | None = None
    """What is sent to it as the header Authorization: `Bearer …`."""
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of traces that is sent; each is sent by all processes, or by none."""


class ModuleSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a module is found."""

    place: Literal["mounted", "exposed", "split"] = "mounted"
    """In this process; in it and on a port of its own too; in a process of its own."""
    port: Literal["new", "legacy", "both"] | Annotated[int, Meta(ge=1, le=65535)] = "new"
    """The port of its own, when exposed or split: its new one, the legacy coordinator's, both, or any other."""
    trust: Literal["none", "loopback"] = "none"
    """`loopback`: programs of the server's own user act without a key as the account `local` on the module's own
    port."""
    trust_uids: list[Annotated[int, Meta(ge=0, lt=2**32)]] = field(default_factory=list)
    """The ids of other users of this machine whose programs are trusted there too."""
    supervised: bool = True
    """Whether `aitbc serve` starts and supervises a split module's process; off where `aitbc serve MODULE` runs it."""
    url: BaseUrl | None = None
    """Where a split module on another machine is found, or the load balancer before it: `https://gpu.internal:8443`."""
    ca: Path | None = None
    """The certificates that may vouch for `url`, PEM; without it those that the system trusts."""
    inner: Address | None = None
    """`host:port` of the internal API of `aitbc serve MODULE` on that machine: `0.0.0.0:8443`."""
    inner_certificate: Path | None = None
    """The certificate of the internal API with its chain, PEM; needed unless it is on loopback."""
    inner_key: Path | None = None
    """Its unencrypted key, PEM, which others cannot read."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Read once, passed by hand."""

    state_dir: Path
    """Keys, the embedded database and everything else that must survive a restart."""
    secret_key: Secret | None = None
    """The secret from which role passwords, cursors and service tokens are derived; by default in the state folder.

    Processes on several machines need the same one.
    """
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()
    gateway: GatewaySettings = GatewaySettings()
    nats: NatsSettings = NatsSettings()
    webhooks: WebhookSettings = WebhookSettings()
    hooks: HookSettings = HookSettings()
    traces: TraceSettings = TraceSettings()
    modules: dict[str, ModuleSettings] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    """The Struct of each module that has settings of its own."""

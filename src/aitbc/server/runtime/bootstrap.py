"""Bootstraps one process: migrates the database, loads the installation's keys, and wires the modules."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import structlog

from aitbc.kernel.crypto.signing import Key, verify
from aitbc.kernel.database.connect import reached, through_pooler
from aitbc.kernel.database.migrations import Part, migrate, wait_until_migrated
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.events.bus import Bus
from aitbc.kernel.hooks.extensions import Extensions
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.trusted import trusted_kinds
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.denials import Denials
from aitbc.kernel.identity.principal import Principal, role_scopes
from aitbc.kernel.identity.sessions import Sessions
from aitbc.kernel.identity.tables import ApiKey
from aitbc.kernel.module import Module
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import ConfigError, Unauthenticated, Unavailable
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.kernel.primitives.version import this_build
from aitbc.server.admin.health import database_answers, disk_has_room
from aitbc.server.admin.inspection import DatabaseInspection, LogLevels
from aitbc.server.admin.installed import Installed, InstalledParts, Upkeep
from aitbc.server.admin.operations import Operations
from aitbc.server.admin.retention import RETENTION_PARAMETERS, Retention
from aitbc.server.cluster.directory import Directory
from aitbc.server.cluster.peers import Peer, Process, peers
from aitbc.server.cluster.service_token import Tokens
from aitbc.server.config.installation import parts, secret_of, write_private
from aitbc.server.config.loading import Row
from aitbc.server.config.placement import MAIN, Placement, placement_of
from aitbc.server.config.settings import Settings
from aitbc.server.postgres.embedded import START_SECONDS, EmbeddedPostgres, EmbeddedPostgresError
from aitbc.server.runtime.databases import Databases
from aitbc.server.runtime.systemd import Notifier
from aitbc.server.runtime.wiring import Wired, wire
from aitbc.server.webhooks.plugin_notifier import PluginNotifier
from aitbc.server.webhooks.service import Webhooks

LOCAL = "local"
"""The name of the account of callers who need no key, where a port trusts this machine."""
OPERATOR = "operator"
"""The name of the account that runs the platform."""
ADMIN_KEY_LIFETIME = timedelta(days=365)
ADMIN_KEY_RENEWAL = timedelta(days=60)
"""A start with less than this left makes a new admin key."""
POLL_SECONDS = 0.25
RESTART_SECONDS = 5.0
"""The pause after a failed restart of the embedded server."""

log = structlog.get_logger("aitbc.bootstrap")


@dataclass
class Runtime:
    """Everything one process is made of, ready to serve."""

    settings: Settings
    parts: Sequence[Part]
    platform: Platform
    wired: Wired
    webhooks: Webhooks
    operator: Principal
    postgres: EmbeddedPostgres | None
    modules: Sequence[Module]
    """Every module of the installation, those of other processes included."""
    placement: Placement
    peers: Mapping[str, Peer]
    """The peer of each module of another process."""
    tokens: Tokens
    loopback_key: str | None
    """The key of the account `local`, for callers who need none; none where no port trusts anybody."""
    other_schemas: Mapping[str, Database]
    """The schemas of modules of other processes: their events and audit trail belong to the operator's view."""
    started_at: datetime
    installed: Installed
    """What modules may ask of the installation."""
    described: Sequence[Row] = ()
    """The settings with their origin, where this process was started with some."""
    notifier: Notifier = field(default_factory=Notifier)
    """Extends the watchdog while the embedded server recovers, which holds up the event loop."""

    @property
    def identity(self) -> Identity:
        """Accounts and API keys."""
        return self.platform.identity

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions of browsers."""
        return Sessions(self.platform.kernel, self.identity, self.retention.of_sessions)

    @cached_property
    def retention(self) -> Retention:
        """How long rows of the platform's own are kept."""
        return Retention(self.platform.parameters)

    @cached_property
    def operations(self) -> Operations:
        """The operator's view of every schema, those of modules in other processes included."""
        return Operations({**self.wired.databases, **self.other_schemas, "kernel": self.platform.kernel})

    @cached_property
    def database_inspection(self) -> DatabaseInspection:
        """The database, as the operator looks into it."""
        return DatabaseInspection({**self.wired.databases, **self.other_schemas, "kernel": self.platform.kernel})

    @cached_property
    def log_levels(self) -> LogLevels:
        """The levels of the log in every process."""
        return LogLevels(self.placement.process, self.peers, self.platform.kernel)

    @cached_property
    def denials(self) -> Denials:
        """Refused requests by key, for the audit trail."""
        return Denials(self.platform.kernel)

    @property
    def databases(self) -> dict[str, Database]:
        """Every database of this process, the kernel's included."""
        return {**self.wired.databases, "kernel": self.platform.kernel}

    @cached_property
    def process(self) -> Process:
        """This process, as described to its peers and the operator."""
        placement = self.placement
        return Process(
            name=placement.process,
            pid=os.getpid(),
            modules=placement.modules_here,
            ports={str(port): modules for port, modules in placement.ports.items()},
            version=this_build().version,
            started_at=self.started_at,
            trusting=tuple(sorted(placement.trusting_ports)),
        )

    @cached_property
    def directory(self) -> Directory:
        """Which process serves which module."""
        return Directory(self.process, [module.name for module in self.modules], self.peers)

    async def signer_answers(self) -> str | None:
        """Readiness check: whether the node's key signs."""
        key = self.platform.node_key
        return None if verify(key.public, b"ready", key.sign(b"ready")) else "The node's key does not sign."

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run services, relays and periodic tasks, and watch the embedded server; at the end close all of it."""
        await self.platform.parameters.refresh()
        tasks = [
            asyncio.create_task(self.platform.parameters.run()),
            asyncio.create_task(self._run_retention()),
            asyncio.create_task(self.denials.run()),
        ]
        if self.postgres is not None:
            tasks.append(asyncio.create_task(_restart_after_crashes(self.postgres, self.notifier)))
        try:
            await self.webhooks.start()
            async with self.wired.running():
                yield
        finally:
            await cancel_and_wait(tasks)
            await self.webhooks.stop()
            await self.denials.close()
            for peer in self.installed.peers.values():
                await peer.close()
            for database in self.other_schemas.values():
                await database.close()
            await self.platform.kernel.close()

    async def _run_retention(self) -> None:
        while True:
            await asyncio.sleep(600)
            try:
                await self.operations.purge(self.retention)
                await self.webhooks.purge(self.retention.of_deliveries())
            except Unavailable:
                continue
            except Exception:
                log.exception("retention_failed")


async def _restart_after_crashes(postgres: EmbeddedPostgres, notifier: Notifier) -> None:
    """Restart the embedded server whenever it has crashed; it recovers what was committed."""
    is_down = False
    while True:
        await asyncio.sleep(RESTART_SECONDS if is_down else POLL_SECONDS)
        exit_code = postgres.poll()
        if exit_code is None and not is_down:
            continue
        log.error("postgres_crashed", exit_code=exit_code)
        try:
            with notifier.extended_watchdog(START_SECONDS + RESTART_SECONDS):
                postgres.restart()  # in this thread on purpose: the server's life is tied to the thread that started it
        except EmbeddedPostgresError as error:
            is_down = True
            log.error("postgres_not_restarted", reason=str(error), again_in_seconds=RESTART_SECONDS)
            continue
        is_down = False
        log.info("postgres_restarted", pid=postgres.pid)


async def build(
    settings: Settings,
    modules: Sequence[Module],
    *,
    owner: Target,
    postgres: EmbeddedPostgres | None = None,
    loop_lag: LoopLag | None = None,
    placement: Placement | None = None,
) -> Runtime:
    """Migrate the database, make the keys of a first start, and wire the modules that `placement` puts here."""
    placement = placement or placement_of(settings, [module.name for module in modules])
    secret, schemas = secret_of(settings), parts(modules)
    node_key = _node_key(placement, settings.state_dir)
    role_secret = None if settings.database.url is None else secret  # the roles of the embedded server have no password
    if role_secret is not None:
        owner = await (reached if placement.process == MAIN else through_pooler)(owner)  # the others wait for the main
    await _migrate(owner, schemas, placement, role_secret, provision=settings.database.provision)
    databases = Databases(owner, schemas, settings.database, role_secret)
    kernel = databases.open("kernel")
    draining = asyncio.Event()
    webhooks = Webhooks(kernel, secret, settings.webhooks, draining)
    hooks = _hooks(settings, webhooks)
    platform = Platform(
        node_key=node_key,
        state_dir=settings.state_dir,
        secret=secret,
        identity=Identity(kernel, role_scopes(module.scopes for module in modules)),
        kernel=kernel,
        webhooks=webhooks,
        loop_lag=loop_lag or LoopLag(),
        bus=_bus(settings, secret, modules),
        draining=draining,
        egress=webhooks.outbound,
        hooks=hooks,
        extensions=Extensions(kernel, hooks, node_key, webhooks.outbound),
        parameters=_parameters(kernel, modules, settings),
        heard=frozenset(event.kind for module in modules for event in module.handles),
    )
    tokens = Tokens(secret, placement.process)
    remote_peers = peers(placement.peer_hosts, tokens)
    wired = wire(modules, databases, platform, webhooks, settings=settings.tables, remote_peers=remote_peers)
    everybody = _with_main(remote_peers, placement, tokens)
    parts_here = InstalledParts(placement.process, {**wired.databases, "kernel": kernel}, everybody, platform.bus)
    platform.installation = installed = Installed(parts_here, everybody)
    runtime = Runtime(
        settings=settings,
        parts=schemas,
        platform=platform,
        wired=wired,
        webhooks=webhooks,
        operator=await _operator_principal(platform.identity, settings.state_dir),
        loopback_key=await _loopback_key(platform.identity, settings.state_dir) if placement.trusting_ports else None,
        postgres=postgres,
        modules=modules,
        placement=placement,
        peers=remote_peers,
        tokens=tokens,
        other_schemas={name: databases.open(name) for name in remote_peers} if placement.process == MAIN else {},
        started_at=now(),
        installed=installed,
    )
    parts_here.checks = {
        "database": database_answers(runtime.databases),
        "disk": disk_has_room(settings.state_dir),
        "signer": runtime.signer_answers,
    }
    if placement.process == MAIN:
        installed.upkeeper = _upkeep(runtime, owner)
    return runtime


def _upkeep(runtime: Runtime, owner: Target) -> Upkeep:
    """What cleans the database up, for the main process."""
    names, folder = [part.name for part in runtime.parts], runtime.settings.state_dir
    return Upkeep(runtime.operations, owner, names, folder, runtime.retention)


def _hooks(settings: Settings, webhooks: Webhooks) -> Hooks:
    """The hooks, with the kinds of work that trusted packages add; who is asked at them hears what webhooks hear."""
    hooks = Hooks(settings.hooks)
    hooks.kinds = trusted_kinds(settings.hooks.trusted)
    webhooks.notifier = PluginNotifier(hooks)
    return hooks


def _parameters(kernel: Database, modules: Sequence[Module], settings: Settings) -> Parameters:
    """The live parameters of every module of the installation, and of the platform itself."""
    declared = [*RETENTION_PARAMETERS, *(parameter for module in modules for parameter in module.parameters)]
    return Parameters(kernel, declared, {**settings.tables, "webhooks": settings.webhooks}.get)


def _with_main(remote_peers: Mapping[str, Peer], placement: Placement, tokens: Tokens) -> Mapping[str, Peer]:
    """The peers by module, and of another process than the main one also that of the main one, by its name."""
    if placement.main_host is None:
        return remote_peers
    known = next((peer for peer in remote_peers.values() if peer.name == MAIN), None)
    return {**remote_peers, MAIN: known or Peer(placement.main_host, tokens)}


def _bus(settings: Settings, secret: bytes, modules: Sequence[Module]) -> Bus | None:
    """The bus, where a NATS server is configured. Raises `ConfigError`."""
    if settings.nats.url is None:
        return None
    from aitbc.server.cluster.nats_events import NatsEventBus  # noqa: PLC0415 - loaded only where a server is configured

    return NatsEventBus(settings.nats, secret, [module.name for module in modules if module.handles])


async def _migrate(
    owner: Target, schemas: Sequence[Part], placement: Placement, secret: bytes | None, *, provision: bool
) -> None:
    """Migrate in the main process; in the others wait until their schemas are migrated."""
    if placement.process != MAIN:
        await wait_until_migrated(owner, [part for part in schemas if part.name in {"kernel", *placement.modules_here}])
        return
    for line in await migrate(owner, schemas, secret=secret, provision=provision):
        log.info("schema_migrated", change=line)


def _node_key(placement: Placement, state: Path) -> Key:
    """The node's signing key, made at the first start.

    Raises `ConfigError` on a machine that would make a second one.
    """
    path = state / "node.key"
    if placement.internal_listener is not None and placement.process != MAIN and not path.exists():
        raise ConfigError(f"{path}: copy node.key here from the state folder of the main process: the node has one key")
    return Key.load(path, create=True)


async def _loopback_key(identity: Identity, state: Path) -> str:
    """The secret of the account `local`, from its 0600 file; made or renewed when needed."""
    path = state / "local.key"
    if path.exists():
        secret = path.read_text().strip()
        with suppress(Unauthenticated):
            principal = await identity.authenticate(secret)
            if _is_lasting(await identity.key(principal, principal.key)):
                return secret
    account = await identity.ensure_account(LOCAL)
    issued = await identity.issue(account=account.id, kind="live", name="loopback", lifetime=ADMIN_KEY_LIFETIME)
    write_private(path, issued.secret + "\n")
    return issued.secret


def _is_lasting(key: ApiKey) -> bool:
    """Whether a file may keep this key: not one that ends soon, nor one that was rotated and ends with its overlap."""
    return key.revoked_at is None and key.expires_at - now() > ADMIN_KEY_RENEWAL


async def _operator_principal(identity: Identity, state: Path) -> Principal:
    """The admin behind the 0600 file that the command line on this machine finds; made or renewed when needed."""
    path = state / "admin.key"
    account = await identity.ensure_account(OPERATOR)
    if path.exists():
        with suppress(Unauthenticated):
            principal = await identity.authenticate(path.read_text().strip())
            if _is_lasting(await identity.key(principal, principal.key)):
                return principal
    issued = await identity.issue(account=account.id, kind="admin", name="first start", lifetime=ADMIN_KEY_LIFETIME)
    write_private(path, issued.secret + "\n")
    log.info("admin_key_written", path=str(path))
    return await identity.authenticate(issued.secret)

"""Puts the house together: the database, the installation's keys, every module, one application; and takes it down again."""

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
from aitbc.kernel.database.migrations import Part, awaited, migrate
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.events.bus import Bus
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.denials import Denials
from aitbc.kernel.identity.principal import Principal, role_scopes
from aitbc.kernel.module import Module
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import ConfigError, Unauthenticated, Unavailable
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.primitives.tasks import end
from aitbc.kernel.primitives.version import this_build
from aitbc.server.admin.operations import Operations
from aitbc.server.cluster.peers import Directory, Peer, Process, Tokens, peers
from aitbc.server.config.installation import parts, secret_of, write_private
from aitbc.server.config.placement import MAIN, Placement, places
from aitbc.server.config.settings import Settings
from aitbc.server.postgres.embedded import START_SECONDS, EmbeddedPostgres, EmbeddedPostgresError
from aitbc.server.runtime.databases import Databases
from aitbc.server.runtime.systemd import Notifier
from aitbc.server.runtime.wiring import Wired, wire
from aitbc.server.webhooks.service import Webhooks

LOCAL = "local"
"""The name of the account of callers who need no key, where a port trusts this machine."""
OPERATOR = "operator"
"""The name of the account that runs the platform."""
ADMIN_KEY_LIFETIME = timedelta(days=365)
ADMIN_KEY_RENEWED = timedelta(days=60)
"""A start with less than this left makes a new admin key."""
WATCH_SECONDS = 0.25
RESTART_SECONDS = 5.0
"""How long to wait after a restart of the embedded server that failed."""
ANSWERS_KEPT = timedelta(hours=24)

log = structlog.get_logger("aitbc.house")


@dataclass
class Runtime:
    """Everything of one process, built and not yet serving."""

    settings: Settings
    parts: Sequence[Part]
    platform: Platform
    wired: Wired
    webhooks: Webhooks
    operator: Principal
    postgres: EmbeddedPostgres | None
    modules: Sequence[Module]
    """Every module of the installation, those of other processes included."""
    places: Placement
    peers: Mapping[str, Peer]
    """For each module of another process the one that serves it."""
    tokens: Tokens
    loopback_key: str | None
    """The key of the account `local`, for callers who need none; none where no port trusts anybody."""
    looked_into: Mapping[str, Database]
    """The schemas of modules in other processes: their events and audit belong to the operator's view."""
    started_at: datetime
    notifier: Notifier = field(default_factory=Notifier)
    """Who is asked for patience while the embedded server recovers, which holds up the event loop."""

    @property
    def identity(self) -> Identity:
        """Accounts and API keys."""
        return self.platform.identity

    @cached_property
    def operations(self) -> Operations:
        """The operator's view of every schema, those of modules in other processes included."""
        return Operations({**self.wired.databases, **self.looked_into, "kernel": self.platform.kernel})

    @cached_property
    def denials(self) -> Denials:
        """What keys were refused, for the audit trail."""
        return Denials(self.platform.kernel)

    @property
    def databases(self) -> dict[str, Database]:
        """Every database of this process, the kernel's included."""
        return {**self.wired.databases, "kernel": self.platform.kernel}

    @cached_property
    def process(self) -> Process:
        """This process, as it tells the others and the operator."""
        where = self.places
        return Process(
            name=where.me,
            pid=os.getpid(),
            modules=where.here,
            ports={str(port): modules for port, modules in where.ports.items()},
            version=this_build().version,
            started_at=self.started_at,
            trusting=tuple(sorted(where.trusting)),
        )

    @cached_property
    def directory(self) -> Directory:
        """Where the modules run."""
        return Directory(self.process, [module.name for module in self.modules], self.peers)

    async def signer_answers(self) -> str | None:
        """Whether the node's key signs: a check of readiness."""
        key = self.platform.node_key
        return None if verify(key.public, b"ready", key.sign(b"ready")) else "The node's key does not sign."

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Services, relays and chores at work, the embedded server watched."""
        tasks = [asyncio.create_task(self._tidy()), asyncio.create_task(self.denials.run())]
        if self.postgres is not None:
            tasks.append(asyncio.create_task(_watch(self.postgres, self.notifier)))
        try:
            await self.webhooks.start()
            async with self.wired.running():
                yield
        finally:
            await end(tasks)
            await self.webhooks.stop()
            await self.denials.close()
            for peer in self.peers.values():
                await peer.close()
            for database in self.looked_into.values():
                await database.close()
            await self.platform.kernel.close()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(600)
            with suppress(Unavailable):
                await self.operations.tidy(now() - ANSWERS_KEPT)
                await self.webhooks.tidy()


async def _watch(postgres: EmbeddedPostgres, notifier: Notifier) -> None:
    """Start the embedded server again whenever it has crashed; it recovers what was committed."""
    is_down = False
    while True:
        await asyncio.sleep(RESTART_SECONDS if is_down else WATCH_SECONDS)
        exit_code = postgres.poll()
        if exit_code is None and not is_down:
            continue
        log.error("postgres_crashed", exit_code=exit_code)
        try:
            with notifier.patience(START_SECONDS + RESTART_SECONDS):
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
    where: Placement | None = None,
) -> Runtime:
    """Migrate the database, make what a first start needs, and wire the modules that live here; `where` says which."""
    where = where or places(settings, [module.name for module in modules])
    secret, everything = secret_of(settings), parts(modules)
    node_key = _node_key(where, settings.state_dir)
    role_secret = None if settings.database.url is None else secret  # the roles of the embedded server have no password
    await _migrate(owner, everything, where, role_secret, provision=settings.database.provision)
    databases = Databases(owner, everything, settings.database, role_secret)
    kernel = databases.open("kernel")
    draining = asyncio.Event()
    webhooks = Webhooks(kernel, secret, settings.webhooks, draining)
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
    )
    tokens = Tokens(secret, where.me)
    far = peers(where.elsewhere, tokens)
    wired = wire(modules, databases, platform, webhooks, settings=settings.tables, far=far)
    return Runtime(
        settings=settings,
        parts=everything,
        platform=platform,
        wired=wired,
        webhooks=webhooks,
        operator=await _operator(platform.identity, settings.state_dir),
        loopback_key=await _stand_in(platform.identity, settings.state_dir) if where.trusting else None,
        postgres=postgres,
        modules=modules,
        places=where,
        peers=far,
        tokens=tokens,
        looked_into={name: databases.open(name) for name in far} if where.me == MAIN else {},
        started_at=now(),
    )


def _bus(settings: Settings, secret: bytes, modules: Sequence[Module]) -> Bus | None:
    """The way to the NATS server that is configured. Raises `ConfigError`."""
    if settings.nats.url is None:
        return None
    from aitbc.server.cluster.nats_events import NatsEventBus  # noqa: PLC0415 - its library is for those who have a server

    return NatsEventBus(settings.nats, secret, [module.name for module in modules if module.hears])


async def _migrate(
    owner: Target, everything: Sequence[Part], where: Placement, secret: bytes | None, *, provision: bool
) -> None:
    """The main process alone migrates and makes roles; the others wait until what they stand on is there."""
    if where.me != MAIN:
        await awaited(owner, [part for part in everything if part.name in {"kernel", *where.here}])
        return
    for line in await migrate(owner, everything, secret=secret, provision=provision):
        log.info("schema_migrated", change=line)


def _node_key(where: Placement, state: Path) -> Key:
    """The node's signing key, made at the first start. Raises `ConfigError` on a machine that would make a second one."""
    path = state / "node.key"
    if where.inner is not None and where.me != MAIN and not path.exists():
        raise ConfigError(f"{path}: copy node.key here from the state folder of the main process: the node has one key")
    return Key.load(path, create=True)


async def _stand_in(identity: Identity, state: Path) -> str:
    """The secret of the account `local`, from its 0600 file; made or renewed when needed."""
    path = state / "local.key"
    if path.exists():
        secret = path.read_text().strip()
        with suppress(Unauthenticated):
            principal = await identity.authenticate(secret)
            if (await identity.key(principal, principal.key)).expires_at - now() > ADMIN_KEY_RENEWED:
                return secret
    account = await identity.first_account(LOCAL)
    issued = await identity.issue(account=account.id, kind="live", name="loopback", lifetime=ADMIN_KEY_LIFETIME)
    write_private(path, issued.secret + "\n")
    return issued.secret


async def _operator(identity: Identity, state: Path) -> Principal:
    """The admin behind the 0600 file that the command line on this machine finds; made or renewed when needed."""
    path = state / "admin.key"
    account = await identity.first_account(OPERATOR)
    if path.exists():
        with suppress(Unauthenticated):
            principal = await identity.authenticate(path.read_text().strip())
            key = await identity.key(principal, principal.key)
            if key.expires_at - now() > ADMIN_KEY_RENEWED:
                return principal
    issued = await identity.issue(account=account.id, kind="admin", name="first start", lifetime=ADMIN_KEY_LIFETIME)
    write_private(path, issued.secret + "\n")
    log.info("admin_key_written", path=str(path))
    return await identity.authenticate(issued.secret)

"""`aitbc serve`: from settings to a server that answers, and down again without a trace."""

import gc
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.errors import AppError, ConfigError
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry import logs
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.config import listeners
from aitbc.server.config.installation import SERVER_FILE, ServerFile, owner_of, settings_of, target_of, write_private
from aitbc.server.config.loading import Loaded
from aitbc.server.config.placement import MAIN, Placement, places
from aitbc.server.config.settings import Settings
from aitbc.server.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from aitbc.server.runtime import uvicorn_server
from aitbc.server.runtime.application import bounded, litestar
from aitbc.server.runtime.bootstrap import build
from aitbc.server.runtime.supervisor import supervised
from aitbc.server.runtime.systemd import Notifier, keep_to_ourselves

EVENTS_SECONDS = 30.0
"""How old the figures of the events may be: to count the dead ones takes a look at all that are kept."""

log = structlog.get_logger("aitbc.serving")


def serve(modules: Sequence[Module], flags: Mapping[str, Any], command: Sequence[str], *, me: str = MAIN) -> int:
    """Serve until a signal; gives the exit code. What stands in the way is said in one line on stderr.

    The main process serves every module that is not split out, and starts a process for each of those that are: `command`
    with the module's name and the flags as JSON. `me` names the module when this is one of them.
    """
    gc.freeze()  # what was loaded stays to the end: no search for garbage needs to walk through it
    gc.enable()
    try:
        loaded = settings_of(modules, flags)
        keep_to_ourselves(os.environ)
        where = places(loaded.settings, [module.name for module in modules], me)
        return _serve(modules, loaded, where, [*command, json.dumps(dict(flags), default=str)])
    except EmbeddedPostgresError as error:
        sys.stderr.write(f"aitbc: {error}\n")
        return 78
    except AppError as error:
        sys.stderr.write(f"aitbc: {error.message}\n")
        return error.exit_code


def _serve(modules: Sequence[Module], loaded: Loaded, where: Placement, command: Sequence[str]) -> int:
    settings = loaded.settings
    logs.configure(settings.log, secrets=loaded.secrets, no_color=loaded.no_color)
    if where.me != MAIN:
        logs.module_name.set(where.me)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if where.socket is not None:
        where.socket.parent.mkdir(mode=0o700, exist_ok=True)
    addresses = where.listeners(settings)
    sockets = listeners.bind(addresses, settings.server)
    postgres = None
    try:
        contexts = listeners.contexts(addresses, sockets)
        if settings.database.url is not None:
            owner = target_of(settings.database.url.reveal())
        elif where.me == MAIN:
            postgres = EmbeddedPostgres(settings.state_dir / "postgres")
            owner = owner_of(postgres)
        else:
            owner = _running_database(settings.state_dir)
        _warn(settings, where)
        return uvicorn_server.run(_Process(modules, loaded, owner, postgres, sockets, contexts, where, command))
    finally:
        listeners.close(sockets)
        if where.me == MAIN:
            (settings.state_dir / SERVER_FILE).unlink(missing_ok=True)
        if postgres is not None:
            postgres.stop()
        logs.flush()


def _warn(settings: Settings, where: Placement) -> None:
    """Say what an operator opened and may have forgotten."""
    for port in sorted(where.trusting):
        log.warning(
            "port_asks_no_key",
            port=port,
            modules=list(where.ports[port]),
            meaning="every program on this machine acts there as the account local",
        )
    if where.me == MAIN and settings.gateway.require_auth and settings.gateway.auth_key is None:
        log.warning("gateway_key_unset", meaning="older paths answer nobody until gateway.auth_key is set")


def _running_database(state: Path) -> Target:
    """The way into the embedded server that the main process runs. Raises `ConfigError` where none runs."""
    with suppress(OSError, msgspec.MsgspecError):
        told = msgspec.json.decode((state / SERVER_FILE).read_bytes(), type=ServerFile)
        if told.database is not None:
            return told.database
    raise ConfigError(
        f"the embedded database of {state} runs with the main process, which does not: start `aitbc serve` first, "
        "or give both a database of their own with database.url"
    )


def _is_ours(settings: Settings, module: str) -> bool:
    where = settings.modules.get(module)
    return where is None or (where.supervised and where.url is None)


class _Process:
    """What runs inside the event loop."""

    def __init__(
        self,
        modules: Sequence[Module],
        loaded: Loaded,
        owner: Target,
        postgres: EmbeddedPostgres | None,
        sockets: list[Any],
        contexts: Mapping[int, ssl.SSLContext | None],
        where: Placement,
        command: Sequence[str],
    ) -> None:
        self._modules = modules
        self._loaded = loaded
        self._owner = owner
        self._postgres = postgres
        self._sockets = sockets
        self._contexts = contexts
        self._where = where
        self._command = command

    async def __call__(self, signals: uvicorn_server.Signals) -> int:
        """Build the house and serve it."""
        settings, loop_lag = self._loaded.settings, LoopLag()
        where = self._where
        notifier = Notifier(self._loaded.notify_socket, self._loaded.watchdog_seconds)
        runtime = await build(
            settings, self._modules, owner=self._owner, postgres=self._postgres, loop_lag=loop_lag, where=where
        )
        runtime.notifier = notifier
        metrics = Metrics(this_build(), loop_lag=loop_lag)
        metrics.collector("events", runtime.operations.measure, cache_seconds=EVENTS_SECONDS)
        app = bounded(litestar(runtime, this_build(), metrics), runtime, metrics)
        if where.me == MAIN:
            self._write_down()
        draining = runtime.platform.draining
        mine = {name: one for name, one in runtime.peers.items() if where.me == MAIN and _is_ours(settings, name)}
        gc.freeze()  # nor through the application
        async with supervised(mine, self._command, draining):
            return await uvicorn_server.serve(
                app,
                settings.server,
                self._sockets,
                signals=signals,
                draining=draining,
                loop_lag=loop_lag,
                notifier=notifier,
                contexts=self._contexts,
            )

    def _write_down(self) -> None:
        settings = self._loaded.settings
        scheme = "https" if settings.server.tls_certificate else "http"
        host, port = self._sockets[0].getsockname()[:2]
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        told = ServerFile(url=url, pid=os.getpid(), database=self._owner if self._postgres is not None else None)
        write_private(settings.state_dir / SERVER_FILE, msgspec.json.encode(told).decode() + "\n")

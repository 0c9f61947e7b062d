"""`aitbc serve`: from settings to a running server, and its clean shutdown."""

import gc
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.errors import AppError, ConfigError, Unavailable
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.primitives.server_file import OwnServerFile
from aitbc.kernel.primitives.settings_files import url_of
from aitbc.kernel.primitives.storage import names_storage, storage_error
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry import logs
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.admin.installed import Backup
from aitbc.server.asgi.pages import MakePages
from aitbc.server.config import listeners
from aitbc.server.config.installation import (
    ServerFile,
    configured_target,
    running_server,
    settings_of,
    start_embedded,
)
from aitbc.server.config.loading import Loaded, describe
from aitbc.server.config.placement import MAIN, Placement, placement_of
from aitbc.server.config.settings import Settings
from aitbc.server.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from aitbc.server.runtime import uvicorn_server
from aitbc.server.runtime.application import asgi_app, litestar
from aitbc.server.runtime.bootstrap import build
from aitbc.server.runtime.launcher import launcher
from aitbc.server.runtime.supervisor import SplitModules, supervised
from aitbc.server.runtime.systemd import Notifier, remove_systemd_variables

EVENTS_SECONDS = 30.0
"""How long the metrics of events are cached: counting the dead ones reads all that are kept."""

log = structlog.get_logger("aitbc.serve")


class Extras(Struct, frozen=True):
    """What the application gives a server besides its modules."""

    backup: Backup | None = None
    """Writes a backup into a file."""
    pages: MakePages | None = None
    """Makes what people look at; used by the main process only."""


def serve(
    modules: Sequence[Module],
    flags: Mapping[str, Any],
    command: Sequence[str],
    *,
    process: str = MAIN,
    extras: Extras | None = None,
) -> int:
    """Serve until a signal; returns the exit code. What prevents a start is reported in one line on stderr.

    The main process serves every module that is not split out, and has a process forked for each of those that are, or
    starts `command` with the module's name and the flags as JSON. `process` names the module when this is one of them.
    A full or failing disk is not 78: whoever supervises the process may start it again.
    """
    gc.freeze()  # what was loaded stays to the end, so the collector need not walk it
    gc.enable()
    try:
        loaded = settings_of(modules, flags)
        remove_systemd_variables(os.environ)
        placement = placement_of(loaded.settings, [module.name for module in modules], process)
        as_program = [*command, json.dumps(dict(flags), default=str)]
        split = [name for name in placement.peer_hosts if process == MAIN and _is_supervised(loaded.settings, name)]
        forking = launcher(partial(_serve_module, modules, flags, command, extras)) if split else None
        try:
            return _serve(modules, loaded, placement, SplitModules(split, as_program, forking), extras or Extras())
        finally:
            if forking is not None:
                forking.close()
    except EmbeddedPostgresError as error:
        sys.stderr.write(f"aitbc: {error}\n")
        return Unavailable.exit_code if names_storage(str(error)) else ConfigError.exit_code
    except OSError as error:
        if (refusal := storage_error(error)) is None:
            raise
        place = error.filename or "a file that the start writes"
        sys.stderr.write(f"aitbc: {place}: {error.strerror}; the start goes on from here when there is room\n")
        return refusal.exit_code
    except AppError as error:
        sys.stderr.write(f"aitbc: {error.message}\n")
        return error.exit_code


def _serve_module(
    modules: Sequence[Module], flags: Mapping[str, Any], command: Sequence[str], extras: Extras | None, process: str
) -> int:
    return serve(modules, flags, command, process=process, extras=extras)


def _serve(modules: Sequence[Module], loaded: Loaded, placement: Placement, split: SplitModules, extras: Extras) -> int:
    settings = loaded.settings
    logs.configure(settings.log, secrets=loaded.secrets, no_color=loaded.no_color)
    if placement.process != MAIN:
        logs.module_name.set(placement.process)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if placement.socket is not None:
        placement.socket.parent.mkdir(mode=0o700, exist_ok=True)
    addresses = placement.listeners(settings)
    sockets = listeners.bind(addresses, settings.server)
    postgres = None
    try:
        contexts = listeners.contexts(addresses, sockets)
        if (configured := configured_target(loaded)) is not None:
            owner = configured
        elif placement.process == MAIN:
            postgres = EmbeddedPostgres(settings.state_dir / "postgres")
            owner = start_embedded(postgres)
        else:
            owner = _running_database(settings.state_dir)
        _warn_of_open_ports(settings, placement)
        return uvicorn_server.run(
            _ServerProcess(modules, loaded, owner, postgres, sockets, contexts, placement, split, extras)
        )
    finally:
        listeners.close(sockets)
        if postgres is not None:
            postgres.stop()
        logs.flush()


def _warn_of_open_ports(settings: Settings, placement: Placement) -> None:
    """Log a warning for each port that trusts loopback, and for a gateway key that is required and not set."""
    for port in sorted(placement.trusting_ports):
        log.warning(
            "port_asks_no_key",
            port=port,
            modules=list(placement.ports[port]),
            users=sorted(placement.trusting_ports[port]),
            meaning="every program of these users on this machine acts there as the account local",
        )
    if placement.process == MAIN and settings.gateway.require_auth and settings.gateway.auth_key is None:
        log.warning("gateway_key_unset", meaning="legacy paths answer nobody until gateway.auth_key is set")


def _running_database(state: Path) -> Target:
    """The address of the embedded server that the main process runs. Raises `ConfigError` where none runs."""
    server = running_server(state)
    if server is not None and server.database is not None:
        return server.database
    raise ConfigError(
        f"the embedded database of {state} runs with the main process, which does not: start `aitbc serve` first, "
        "or give both a database of their own with database.url"
    )


def _is_supervised(settings: Settings, module: str) -> bool:
    placement = settings.modules.get(module)
    return placement is None or (placement.supervised and placement.url is None)


class _ServerProcess:
    """The server process, as it runs inside the event loop."""

    def __init__(
        self,
        modules: Sequence[Module],
        loaded: Loaded,
        owner: Target,
        postgres: EmbeddedPostgres | None,
        sockets: list[Any],
        contexts: Mapping[int, ssl.SSLContext | None],
        placement: Placement,
        split: SplitModules,
        extras: Extras,
    ) -> None:
        self._modules = modules
        self._loaded = loaded
        self._owner = owner
        self._postgres = postgres
        self._sockets = sockets
        self._contexts = contexts
        self._where = placement
        self._split = split
        self._extras = extras

    async def __call__(self, signals: uvicorn_server.Signals) -> int:
        """Build the runtime and the application, and serve them."""
        settings, loop_lag = self._loaded.settings, LoopLag()
        placement = self._where
        notifier = Notifier(self._loaded.notify_socket, self._loaded.watchdog_seconds)
        runtime = await build(
            settings, self._modules, owner=self._owner, postgres=self._postgres, loop_lag=loop_lag, placement=placement
        )
        runtime.notifier, runtime.described = notifier, describe(self._loaded)
        if runtime.installed.upkeeper is not None:
            runtime.installed.upkeeper.backup = self._extras.backup
        metrics = Metrics(this_build(), loop_lag=loop_lag)
        metrics.collector("events", runtime.operations.measure, cache_seconds=EVENTS_SECONDS)
        make = self._extras.pages if placement.process == MAIN else None
        pages = None if make is None else make(runtime.sessions, runtime.platform.draining)
        app = asgi_app(litestar(runtime, this_build(), metrics, pages), runtime, metrics, pages)
        server_file = self._write_server_file() if placement.process == MAIN else None
        draining = runtime.platform.draining
        gc.freeze()  # the application stays too
        try:
            async with supervised(self._split, runtime.peers, draining):
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
        finally:
            if server_file is not None:
                server_file.remove()

    def _write_server_file(self) -> OwnServerFile:
        settings = self._loaded.settings
        host, port = self._sockets[0].getsockname()[:2]
        url = url_of(host, port, tls=settings.server.tls_certificate is not None)
        server_file = ServerFile(url=url, pid=os.getpid(), database=self._owner if self._postgres is not None else None)
        return OwnServerFile(settings.state_dir, msgspec.json.encode(server_file).decode() + "\n")

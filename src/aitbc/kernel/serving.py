"""`aitbc serve`: from settings to a server that answers, and down again without a trace."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from aitbc.kernel import listeners, logs, server
from aitbc.kernel.application import bounded, litestar
from aitbc.kernel.build import this_build
from aitbc.kernel.config import Loaded, load
from aitbc.kernel.db import Target
from aitbc.kernel.embedded import EmbeddedPostgres, EmbeddedPostgresError
from aitbc.kernel.errors import AppError
from aitbc.kernel.house import build, target_of, write_private
from aitbc.kernel.metrics import Metrics
from aitbc.kernel.module import Module
from aitbc.kernel.pulse import Pulse

SERVER_FILE = "server.json"
"""In the state folder while a server runs: where the command line on this machine finds it."""

log = structlog.get_logger("aitbc.serving")


class ServerFile(Struct, frozen=True, kw_only=True):
    """What a running server writes down about itself."""

    url: str
    pid: int
    database: Target | None = None
    """The owner's way into the embedded database, which only the server's own user can take."""


def settings_of(modules: Sequence[Module], flags: Mapping[str, Any]) -> Loaded:
    """The settings of this process, from every source. Raises `ConfigError`."""
    tables = {module.name: module.settings for module in modules if module.settings is not None}
    return load(flags, os.environ, Path.cwd(), tables, modules=[module.name for module in modules])


def serve(modules: Sequence[Module], flags: Mapping[str, Any]) -> int:
    """Serve every module until a signal; gives the exit code. What stands in the way is said in one line on stderr."""
    try:
        return _serve(modules, settings_of(modules, flags))
    except EmbeddedPostgresError as error:
        sys.stderr.write(f"aitbc: {error}\n")
        return 78
    except AppError as error:
        sys.stderr.write(f"aitbc: {error.message}\n")
        return error.exit_code


def _serve(modules: Sequence[Module], loaded: Loaded) -> int:
    settings = loaded.settings
    logs.configure(settings.log, secrets=loaded.secrets, no_color=loaded.no_color)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    gateway = listeners.gateway(settings.server)
    sockets = listeners.bind([gateway], settings.server)
    postgres, owner = None, None
    try:
        if settings.database.url is None:
            postgres = EmbeddedPostgres(settings.state_dir / "postgres")
            owner = owner_of(postgres)
        else:
            owner = target_of(settings.database.url.reveal())
        return server.run(_Main(modules, loaded, owner, postgres, sockets))
    finally:
        listeners.close(sockets)
        (settings.state_dir / SERVER_FILE).unlink(missing_ok=True)
        if postgres is not None:
            postgres.stop()
        logs.flush()


def owner_of(postgres: EmbeddedPostgres) -> Target:
    """Start the embedded server, and give its owner's way in."""
    address = postgres.start()
    return Target(host=address.host, port=address.port, user=address.user, database=address.database)


class _Main:
    """What runs inside the event loop."""

    def __init__(
        self,
        modules: Sequence[Module],
        loaded: Loaded,
        owner: Target,
        postgres: EmbeddedPostgres | None,
        sockets: list[Any],
    ) -> None:
        self._modules = modules
        self._loaded = loaded
        self._owner = owner
        self._postgres = postgres
        self._sockets = sockets

    async def __call__(self, signals: server.Signals) -> int:
        """Build the house and serve it."""
        settings, pulse = self._loaded.settings, Pulse()
        house = await build(settings, self._modules, owner=self._owner, postgres=self._postgres, pulse=pulse)
        metrics = Metrics(this_build(), pulse=pulse)
        app = bounded(litestar(house, this_build(), metrics), settings.server, metrics)
        scheme = "https" if settings.server.tls_certificate else "http"
        host, port = self._sockets[0].getsockname()[:2]
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        told = ServerFile(url=url, pid=os.getpid(), database=self._owner if self._postgres is not None else None)
        write_private(settings.state_dir / SERVER_FILE, msgspec.json.encode(told).decode() + "\n")
        notifier = server.Notifier(self._loaded.notify_socket, self._loaded.watchdog_seconds)
        return await server.serve(
            app,
            settings.server,
            self._sockets,
            signals=signals,
            draining=house.platform.draining,
            pulse=pulse,
            notifier=notifier,
        )

"""The uvicorn server: serves one application on all its sockets until a signal, then drains without dropping a request.

The first signal sets `draining`, closes the listeners, answers what is under way with `Connection: close`, and ends
long polls and streams, which watch `draining`; then the lifespan cleans up and the exit code is 0. The second signal
stops at once.
"""

import asyncio
import functools
import gc
import resource
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
import uvicorn
import uvloop
from litestar.types import ASGIApp

from aitbc.kernel.http.websocket import MESSAGE_BYTES_MAX
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.server.asgi.connection import Connection, close_slow_connections
from aitbc.server.config import listeners
from aitbc.server.config.settings import ServerSettings
from aitbc.server.runtime.systemd import Notifier

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_SECONDS = 0.25
"""How long idle connections stay open after the first signal: a request already sent is still answered."""
CLEAN_UP_SECONDS = 1.75
"""The time the lifespan has to clean up, beside what the drain left over."""
FORCED_SECONDS = 1.0
"""The time it has after the second signal."""
SLOW_CHECK_SECONDS = 1.0
PONG_SECONDS = 120.0
"""How long the answer to a ping may take: before it come all bytes that are on their way, on however slow a line."""
OPEN_FILES = 65_536
GC_THRESHOLD = (2_000, 10, 10)
"""Thresholds of the garbage collector's three generations."""

log = structlog.get_logger("aitbc.server")


class Signals:
    """Handles signals to stop: they cancel the main task at first, and drain while the server serves."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._task = asyncio.current_task()
        self._handler: Callable[[int], None] = self._end
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on, number)

    def _on(self, number: int) -> None:
        self.received.append(number)
        self._handler(number)

    def _end(self, _number: int) -> None:
        assert self._task is not None
        self._task.cancel()

    @contextmanager
    def handled_by(self, handler: Callable[[int], None]) -> Generator[None]:
        """Handle signals with this handler while the block runs."""
        self._handler = handler
        try:
            yield
        finally:
            self._handler = self._end


def run(main: Callable[[Signals], Awaitable[int]]) -> int:
    """Run `main` in an event loop of its own and return its exit code; 128 plus the signal's number if one ended it."""
    _raise_file_limit()

    async def signalled() -> int:
        signals = Signals()
        try:
            return await main(signals)
        except asyncio.CancelledError:
            if not signals.received:
                raise
            return 128 + signals.received[0]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(signalled())


async def serve(
    app: ASGIApp,
    settings: ServerSettings,
    sockets: Sequence[socket.socket],
    *,
    signals: Signals,
    draining: asyncio.Event,
    loop_lag: LoopLag,
    notifier: Notifier | None = None,
    contexts: Mapping[int, ssl.SSLContext | None] | None = None,
) -> int:
    """Serve on sockets that are bound, until a signal; gives the exit code.

    0 after a drain, 1 if the application could not start or its clean-up failed or took too long, 128 and the number of
    the signal if a second one cut the drain short. The application's lifespan is entered once, before the first
    request. `contexts` has, by its number, the TLS of each socket that differs from the settings': none for one in the
    clear.
    """
    notifier = notifier or Notifier()
    server = _Server(app, settings, draining, notifier, contexts or {})
    loop = asyncio.get_running_loop()
    background = [
        loop.create_task(work)
        for work in (loop_lag.run(), notifier.run_watchdog(loop_lag), _close_slow_connections(server, settings))
    ]
    try:
        with signals.handled_by(server.on_signal):
            await server.serve(sockets=list(sockets))
    except SystemExit:  # how uvicorn says that the lifespan did not start
        log.error("server_not_started")
        return 1
    finally:
        listeners.close(sockets)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    if server.is_forced:
        return 128 + signals.received[-1]
    log.info("server_stopped", clean=not server.has_failed)
    return 1 if server.has_failed else 0


async def _close_slow_connections(server: "_Server", settings: ServerSettings) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(SLOW_CHECK_SECONDS, settings.head_seconds / 4))
        close_slow_connections(server.server_state.connections, loop.time(), settings.head_seconds)


class _Server(uvicorn.Server):
    """uvicorn's server with our own shutdown: a drain, and a limit of time."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        draining: asyncio.Event,
        notifier: Notifier,
        contexts: Mapping[int, ssl.SSLContext | None],
    ) -> None:
        super().__init__(_config(app, settings, draining))
        self.is_forced = False
        self.has_failed = False
        self._settings = settings
        self._draining = draining
        self._notifier = notifier
        self._deadline: asyncio.Timeout | None = None
        self._stop_at: float | None = None
        self._drain_task: asyncio.Task[None] | None = None
        self._main = asyncio.current_task()
        self._paths: list[Path] = []
        self._contexts = contexts

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Disabled: uvicorn would raise the signal again after the drain, and so return no exit code.

        `Signals` handles them.
        """
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Enter the lifespan, accept connections, and notify systemd."""
        self._paths = [path for each in sockets or [] if (path := listeners.path_of(each)) is not None]
        others = [each for each in sockets or [] if each.fileno() in self._contexts]
        await super().startup([each for each in sockets or [] if each not in others])
        for each in [] if self.should_exit else others:
            self.servers.append(await self._listen(each))
        if not self.should_exit:
            _freeze_garbage_collector()
            self._notifier.notify("READY=1")
            log.info("server_started", addresses=[_address_of(each) for each in sockets or []])

    async def _listen(self, bound: socket.socket) -> asyncio.Server:
        """Accept connections on a socket whose TLS is its own; a Unix socket has none."""
        config = self.config

        def connection() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        return await asyncio.get_running_loop().create_server(
            connection, sock=bound, ssl=self._contexts.get(bound.fileno()), backlog=listeners.BACKLOG
        )

    def on_signal(self, number: int) -> None:
        """The first signal begins the drain, the second cuts it short."""
        loop = asyncio.get_running_loop()
        if self._stop_at is None:
            self._stop_at = loop.time() + self._settings.drain_seconds + CLEAN_UP_SECONDS
            self._draining.set()
            self._notifier.notify("STOPPING=1")
            log.info("drain_started", signal=signal.Signals(number).name)
            self._drain_task = loop.create_task(self._drain_connections())
            return
        self.is_forced = self.force_exit = self.should_exit = True
        for task in self.server_state.tasks:
            task.cancel()
        if self._deadline is not None:
            self._deadline.reschedule(min(self._deadline.when() or self._stop_at, loop.time() + FORCED_SECONDS))
        elif not self.started and self._main is not None:
            self._main.cancel()

    def _unlink_sockets(self) -> None:
        """Unlink the files of Unix sockets while the sockets are open, so that nobody's new file can be meant."""
        while self._paths:
            self._paths.pop().unlink(missing_ok=True)

    async def _drain_connections(self) -> None:
        if self.started:
            self._unlink_sockets()
            for listener in self.servers:
                listener.close()
            loop = asyncio.get_running_loop()
            end = loop.time() + GRACE_SECONDS
            while self.server_state.connections and loop.time() < end:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's shutdown within our limit of time; the lifespan cleans up after a second signal too."""
        self._unlink_sockets()
        loop = asyncio.get_running_loop()
        end = self._stop_at or loop.time() + CLEAN_UP_SECONDS
        if self.is_forced:
            end = min(end, loop.time() + FORCED_SECONDS)
        try:
            async with asyncio.timeout_at(end) as self._deadline:
                await super().shutdown(sockets)
                if self.force_exit:
                    await self.lifespan.shutdown()
            self.has_failed = self.lifespan.should_exit
        except TimeoutError:
            self.has_failed = True
            log.error("clean_up_overran", seconds=self._settings.drain_seconds + CLEAN_UP_SECONDS)


def _config(app: ASGIApp, settings: ServerSettings, draining: asyncio.Event) -> uvicorn.Config:
    """uvicorn's configuration: our protocol class, no logging and no headers of its own."""
    context = listeners.tls_context(settings)
    return uvicorn.Config(
        app,
        http=functools.partial(Connection, is_draining=draining.is_set),  # type: ignore[arg-type]
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,
        ws_ping_timeout=PONG_SECONDS,
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=listeners.BACKLOG,
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=settings.drain_seconds,
        ssl_context_factory=(lambda config, default: context) if context is not None else None,
        reset_contextvars=True,
    )


def _freeze_garbage_collector() -> None:
    """Exempt what was loaded so far from garbage collection, and collect less often: requests leave few cycles."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def _address_of(bound: socket.socket) -> str:
    name = bound.getsockname()
    if isinstance(name, str):
        return name
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _raise_file_limit() -> None:
    """Raise the limit of open files to what the system allows: each waiting miner is a socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""Serves one application on all its sockets until a signal, then drains: nothing that was accepted is dropped.

The first signal sets `draining`, closes the listeners, answers what is under way with `Connection: close`, and ends long polls
and streams, which watch `draining`; then the lifespan cleans up and the exit code is 0. The second signal stops at once.
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
from aitbc.server.asgi.connection import Connection, cut_the_slow
from aitbc.server.config import listeners
from aitbc.server.config.settings import ServerSettings
from aitbc.server.runtime.systemd import Notifier

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_SECONDS = 0.25
"""How long idle connections stay open after the first signal: a request that is on its way to us is still answered."""
CLEAN_UP_SECONDS = 1.75
"""What the lifespan has at the end, beside what the drain left over."""
HURRY_SECONDS = 1.0
"""What it has after the second signal."""
SLOW_ROUND_SECONDS = 1.0
OPEN_FILES = 65_536
COLLECT_AFTER = (2_000, 10, 10)
"""How many new objects make the collector of cycles look at them, and how many of its rounds make it look further back."""

log = structlog.get_logger("aitbc.server")


class Signals:
    """What a signal to stop does: end the main task at first, drain while the server serves."""

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
        """Let somebody else decide for a while."""
        self._handler = handler
        try:
            yield
        finally:
            self._handler = self._end


def run(main: Callable[[Signals], Awaitable[int]]) -> int:
    """Run `main` in an event loop of its own and give its exit code; 128 and the signal's number if one ended it."""
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

    0 after a drain, 1 if the application could not start or its clean-up failed or took too long, 128 and the number of the signal if a
    second one cut the drain short. The application's lifespan is entered once, before the first request.
    `contexts` has, by its number, the TLS of each socket that differs from the settings': none for one in the clear.
    """  # noqa: E501
    notifier = notifier or Notifier()
    server = _Server(app, settings, draining, notifier, contexts or {})
    loop = asyncio.get_running_loop()
    beside = [
        loop.create_task(work)
        for work in (loop_lag.run(), notifier.keep_telling(loop_lag), _cut_the_slow(server, settings))
    ]
    try:
        with signals.handled_by(server.on_signal):
            await server.serve(sockets=list(sockets))
    except SystemExit:  # how uvicorn says that the lifespan did not start
        log.error("server_not_started")
        return 1
    finally:
        listeners.close(sockets)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    if server.is_hurried:
        return 128 + signals.received[-1]
    log.info("server_stopped", clean=not server.has_failed)
    return 1 if server.has_failed else 0


async def _cut_the_slow(server: "_Server", settings: ServerSettings) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(SLOW_ROUND_SECONDS, settings.head_seconds / 4))
        cut_the_slow(server.server_state.connections, loop.time(), settings.head_seconds)


class _Server(uvicorn.Server):
    """uvicorn's server with our way to stop."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        draining: asyncio.Event,
        notifier: Notifier,
        contexts: Mapping[int, ssl.SSLContext | None],
    ) -> None:
        super().__init__(_config(app, settings, draining))
        self.is_hurried = False
        self.has_failed = False
        self._settings = settings
        self._draining = draining
        self._notifier = notifier
        self._limit: asyncio.Timeout | None = None
        self._stop_at: float | None = None
        self._drain: asyncio.Task[None] | None = None
        self._main = asyncio.current_task()
        self._paths: list[Path] = []
        self._contexts = contexts

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn would raise the signal again after the drain, and so never give an exit code: ours are handled elsewhere."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Enter the lifespan, accept connections, and tell who waits for that."""
        self._paths = [path for each in sockets or [] if (path := listeners.path_of(each)) is not None]
        others = [each for each in sockets or [] if each.fileno() in self._contexts]
        await super().startup([each for each in sockets or [] if each not in others])
        for each in [] if self.should_exit else others:
            self.servers.append(await self._listen(each))
        if not self.should_exit:
            _spare_the_collector()
            self._notifier.tell("READY=1")
            log.info("server_started", addresses=[_place(each) for each in sockets or []])

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
        """The first begins the drain, the second ends it."""
        loop = asyncio.get_running_loop()
        if self._stop_at is None:
            self._stop_at = loop.time() + self._settings.drain_seconds + CLEAN_UP_SECONDS
            self._draining.set()
            self._notifier.tell("STOPPING=1")
            log.info("drain_started", signal=signal.Signals(number).name)
            self._drain = loop.create_task(self._drain_politely())
            return
        self.is_hurried = self.force_exit = self.should_exit = True
        for task in self.server_state.tasks:
            task.cancel()
        if self._limit is not None:
            self._limit.reschedule(min(self._limit.when() or self._stop_at, loop.time() + HURRY_SECONDS))
        elif not self.started and self._main is not None:
            self._main.cancel()

    def _forget_paths(self) -> None:
        """Unlink the files of Unix sockets while the sockets are open, so that nobody's new file can be meant."""
        while self._paths:
            self._paths.pop().unlink(missing_ok=True)

    async def _drain_politely(self) -> None:
        if self.started:
            self._forget_paths()
            for listener in self.servers:
                listener.close()
            loop = asyncio.get_running_loop()
            end = loop.time() + GRACE_SECONDS
            while self.server_state.connections and loop.time() < end:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's own, within our limit of time; the lifespan gets its turn after a second signal too."""
        self._forget_paths()
        loop = asyncio.get_running_loop()
        end = self._stop_at or loop.time() + CLEAN_UP_SECONDS
        if self.is_hurried:
            end = min(end, loop.time() + HURRY_SECONDS)
        try:
            async with asyncio.timeout_at(end) as self._limit:
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


def _spare_the_collector() -> None:
    """What was loaded until now stays: the collector of cycles need not walk through all of it again and again.

    Requests leave few cycles behind, so that it may look for them less often than the interpreter makes it by itself.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _place(bound: socket.socket) -> str:
    name = bound.getsockname()
    if isinstance(name, str):
        return name
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _raise_file_limit() -> None:
    """Each waiting miner is a socket: take what the system allows without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

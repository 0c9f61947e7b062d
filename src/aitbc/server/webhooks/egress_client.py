"""Sending to destinations by the pooled client of a library, which is loaded by whoever has something to send."""

import asyncio
import errno
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from aitbc.server.webhooks.egress import EgressPolicy, NotPublic, is_public

LOOKUPS_MAX = 64
"""Names looked up at one time: the system's own way blocks, and a hostile name server may let it wait long."""
REASONS: Sequence[tuple[type[Exception], str]] = (
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientSSLError, "no TLS connection to it could be made"),
    (aiohttp.ServerDisconnectedError, "it closed the connection without an answer"),
    (aiohttp.ClientConnectorDNSError, "its name leads nowhere"),
    (aiohttp.ClientConnectorError, "nothing listens there"),
)
"""Why no answer came, in words that tell nobody about our network; the first that fits."""


def connector(destinations: EgressPolicy) -> aiohttp.TCPConnector:
    """How to connect: each time anew, to an address that was seen."""
    return aiohttp.TCPConnector(
        resolver=_Resolver(anywhere=destinations.anywhere),
        socket_factory=destinations.open_socket,
        use_dns_cache=False,
        force_close=True,
        limit=0,
    )


def new_session(destinations: EgressPolicy, seconds: float) -> aiohttp.ClientSession:
    """A client that goes nowhere else, keeps nothing and follows nobody; an exchange takes so many seconds at most."""
    return aiohttp.ClientSession(
        connector=connector(destinations),
        timeout=aiohttp.ClientTimeout(total=seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=("Accept", "Accept-Encoding"),
        read_bufsize=4096,
    )


def reason_of(failure: BaseException) -> str | None:
    """Why no answer came, where the library knows."""
    return next((words for kind, words in REASONS if isinstance(failure, kind)), None)


class _Resolver(AbstractResolver):
    """Resolves names to addresses that are all public, or not at all.

    In threads that are nobody's: those of a pool are waited for at the end of the process, however long a name server is silent.
    """

    def __init__(self, *, anywhere: bool) -> None:
        self._anywhere = anywhere
        self._room = threading.Semaphore(LOOKUPS_MAX)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises `NotPublic` when one of them is not public, and `OSError` when there are none."""
        found = [one for one in await self._look_up(host, port, family) if one[0] in (socket.AF_INET, socket.AF_INET6)]
        if not self._anywhere and not all(is_public(str(one[4][0])) for one in found):
            raise NotPublic
        return [
            ResolveResult(
                hostname=host, host=str(place[0]), port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """Nothing is held."""

    async def _look_up(self, host: str, port: int, family: int) -> Sequence[Any]:
        if not self._room.acquire(blocking=False):
            raise OSError(errno.EAGAIN, "Too many names are being looked up")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Any]] = loop.create_future()

        def look() -> None:
            answer: Sequence[Any] | Exception
            try:
                answer = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
            except Exception as error:  # noqa: BLE001 - told to the one who waits
                answer = error
            self._room.release()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, future, answer)

        threading.Thread(target=look, daemon=True, name=f"look up {host}").start()
        return await future


def _settle(future: "asyncio.Future[Sequence[Any]]", answer: Sequence[Any] | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)

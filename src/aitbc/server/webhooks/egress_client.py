"""The HTTP client of the egress policy: aiohttp with our resolver; imported when there is something to send."""

import asyncio
import errno
import functools
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from aitbc.server.webhooks.egress import EgressPolicy, NotPublic, is_public

LOOKUPS_MAX = 64
"""Concurrent DNS lookups: getaddrinfo blocks, and a hostile name server may let it wait long."""
REASONS: Sequence[tuple[type[Exception], str]] = (
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientSSLError, "no TLS connection to it could be made"),
    (aiohttp.ServerDisconnectedError, "it closed the connection without an answer"),
    (aiohttp.ClientConnectorDNSError, "its name leads nowhere"),
    (aiohttp.ClientConnectorError, "nothing listens there"),
)
"""Why no response came, in words that reveal nothing about our network; the first that fits."""


def connector(policy: EgressPolicy) -> aiohttp.TCPConnector:
    """A connector without keep-alive and DNS cache, whose addresses are checked by the policy."""
    return aiohttp.TCPConnector(
        ssl=_trust(),
        resolver=resolver(policy),
        socket_factory=policy.open_socket,
        use_dns_cache=False,
        force_close=True,
        limit=0,
    )


@functools.cache
def _trust() -> ssl.SSLContext:
    """The authorities that this process was told to trust (`SSL_CERT_FILE`); aiohttp's own are read by its import."""
    return ssl.create_default_context()


def new_session(policy: EgressPolicy, seconds: float) -> aiohttp.ClientSession:
    """A client session under the policy: no cookies, no proxy, and a total timeout of `seconds`."""
    return aiohttp.ClientSession(
        connector=connector(policy),
        timeout=aiohttp.ClientTimeout(total=seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=("Accept", "Accept-Encoding"),
        read_bufsize=4096,
    )


def resolver(policy: EgressPolicy) -> AbstractResolver:
    """A resolver whose addresses are checked by the policy."""
    return _Resolver(allow_private=policy.allow_private)


def reason_of(failure: BaseException) -> str | None:
    """Why no response came, for errors of aiohttp."""
    return next((words for kind, words in REASONS if isinstance(failure, kind)), None)


class _Resolver(AbstractResolver):
    """Resolver that fails unless all addresses of a name are public.

    It uses daemon threads of its own: a thread pool would be joined at exit, however long a name server is silent.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._anywhere = allow_private
        self._slots = threading.Semaphore(LOOKUPS_MAX)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises `NotPublic` when one of them is not public, and `OSError` when there are none.
        """
        found = [one for one in await self._lookup(host, port, family) if one[0] in (socket.AF_INET, socket.AF_INET6)]
        if not self._anywhere and not all(is_public(str(one[4][0])) for one in found):
            raise NotPublic
        return [
            ResolveResult(
                hostname=host,
                host=str(socket_address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, socket_address in found
        ]

    async def close(self) -> None:
        """Nothing to close."""

    async def _lookup(self, host: str, port: int, family: int) -> Sequence[Any]:
        if not self._slots.acquire(blocking=False):
            raise OSError(errno.EAGAIN, "Too many names are being looked up")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Any]] = loop.create_future()

        def resolve_in_thread() -> None:
            answer: Sequence[Any] | Exception
            try:
                answer = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
            except Exception as error:  # noqa: BLE001 - raised where the lookup is awaited
                answer = error
            self._slots.release()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, future, answer)

        threading.Thread(target=resolve_in_thread, daemon=True, name=f"look up {host}").start()
        return await future


def _settle(future: "asyncio.Future[Sequence[Any]]", answer: Sequence[Any] | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)

"""Wires to a process on another machine, and WebSockets to any: the pooled client of a library, which knows TLS and networks.

It is loaded when it is first needed: most processes never talk that way, and it takes a tenth of a start.
"""

import ssl
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from aitbc.kernel.primitives.errors import AppError
from aitbc.server.cluster.peer_client import CONNECT_SECONDS, SILENCE_SECONDS, WHOLE_BYTES, Content, Head, PeerResponse
from aitbc.server.config.hosts import PeerHost

PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)


def new_session(at: PeerHost, trust: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """The pooled client of one process, for the event loop that runs."""
    connector: aiohttp.BaseConnector
    if at.socket is not None:
        connector = aiohttp.UnixConnector(str(at.socket), limit=0, keepalive_timeout=15)
    else:
        connector = aiohttp.TCPConnector(ssl=trust or True, limit=0, keepalive_timeout=15, ttl_dns_cache=10)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )


def url_at(base: str, target: bytes) -> URL:
    """A target, as it came, at another process."""
    return URL(base + target.decode("ascii"), encoded=True)


class TlsResponse:
    """An `PeerResponse` of the library's."""

    def __init__(self, answer: aiohttp.ClientResponse, whole: bytes | None) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = [(name.lower(), value) for name, value in answer.raw_headers]
        self.whole = whole

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `OSError` when it breaks off."""
        try:
            async for piece in self._answer.content.iter_any():
                yield piece
        except aiohttp.ClientError as error:
            raise ConnectionError(repr(error)) from None

    def close(self) -> None:
        """It was read, or nobody wants the rest."""
        self._answer.close()


class TlsClient:
    """The connections to one process on another machine."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._session = session

    async def ask(self, method: str, target: bytes, head: Head, content: Content = None) -> PeerResponse:
        """Send a request and wait for the head of its answer. Raises `OSError` when none comes, and what `content` raises."""
        try:
            answer = await self._session.request(
                method,
                url_at(self._base, target),
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in head],
                data=content,
                allow_redirects=False,
                timeout=PATIENCE,
            )
            try:
                small = answer.content_length is not None and answer.content_length <= WHOLE_BYTES
                return TlsResponse(answer, await answer.read() if small else None)
            except BaseException:
                answer.close()
                raise
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, AppError):  # the caller's own body was refused on its way
                raise error.__cause__ from None
            raise ConnectionError(repr(error)) from None

    async def close(self) -> None:
        """Nothing of its own: whoever made the session closes it."""

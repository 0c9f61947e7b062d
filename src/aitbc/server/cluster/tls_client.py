"""HTTP client over TLS, for processes on other machines, and for WebSockets to any process: aiohttp's client session.

It is imported when it is first needed: most processes never need it, and importing it takes a tenth of a start.
"""

import ssl
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from aitbc.kernel.primitives.errors import AppError
from aitbc.server.cluster.peer_client import (
    BUFFERED_BYTES_MAX,
    CONNECT_SECONDS,
    READ_TIMEOUT_SECONDS,
    HeaderList,
    PeerResponse,
    RequestBody,
)
from aitbc.server.config.hosts import PeerHost

TIMEOUTS = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_TIMEOUT_SECONDS)


def new_session(at: PeerHost, trust: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """A client session for one process, bound to the running event loop."""
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
    """The URL of a request target at another process, with its escapes as they came."""
    return URL(base + target.decode("ascii"), encoded=True)


class TlsResponse:
    """A `PeerResponse` over aiohttp's response."""

    def __init__(self, answer: aiohttp.ClientResponse, buffered_body: bytes | None) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = [(name.lower(), value) for name, value in answer.raw_headers]
        self.buffered_body = buffered_body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `OSError` when the connection breaks."""
        try:
            async for chunk in self._answer.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise ConnectionError(repr(error)) from None

    def close(self) -> None:
        """Release the connection; what was not read is discarded."""
        self._answer.close()


class TlsClient:
    """A client of one process on another machine."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._session = session

    async def request(self, method: str, target: bytes, headers: HeaderList, body: RequestBody = None) -> PeerResponse:
        """Send a request and wait for the head of its response.

        Raises `OSError` when none comes, and what `body` raises.
        """
        try:
            answer = await self._session.request(
                method,
                url_at(self._base, target),
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in headers],
                data=body,
                allow_redirects=False,
                timeout=TIMEOUTS,
            )
            try:
                small = answer.content_length is not None and answer.content_length <= BUFFERED_BYTES_MAX
                return TlsResponse(answer, await answer.read() if small else None)
            except BaseException:
                answer.close()
                raise
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, AppError):  # the caller's own body was refused on its way
                raise error.__cause__ from None
            raise ConnectionError(repr(error)) from None

    async def close(self) -> None:
        """Nothing to do: the session is closed by its owner."""

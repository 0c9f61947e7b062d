"""Wires to a process on another machine: the pooled client of a library, which knows TLS, names and networks."""

from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from aitbc.kernel.errors import AppError
from aitbc.kernel.wires import CONNECT_SECONDS, SILENCE_SECONDS, WHOLE_BYTES, Answer, Content, Head

PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)


def url_at(base: str, target: bytes) -> URL:
    """A target, as it came, at another process."""
    return URL(base + target.decode("ascii"), encoded=True)


class FarAnswer:
    """An `Answer` of the library's."""

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


class FarWires:
    """The connections to one process on another machine."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._session = session

    async def ask(self, method: str, target: bytes, head: Head, content: Content = None) -> Answer:
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
                return FarAnswer(answer, await answer.read() if small else None)
            except BaseException:
                answer.close()
                raise
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, AppError):  # the caller's own body was refused on its way
                raise error.__cause__ from None
            raise ConnectionError(repr(error)) from None

"""HTTP client of another process, as Protocols: implemented over Unix sockets and over TLS."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

HeaderList = Sequence[tuple[bytes, bytes]]
RequestBody = bytes | AsyncIterator[bytes] | None
"""The body of a request: all of it, its chunks, or none."""

CONNECT_SECONDS = 2.0
READ_TIMEOUT_SECONDS = 90.0
"""The longest pause of a response; more than any long poll and any heartbeat of a stream."""
BUFFERED_BYTES_MAX = 64 * 1024
"""A response that announces no more than this is buffered."""


class PeerResponse(Protocol):
    """A response: its head, and a body that may still be on its way."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""

    @property
    def buffered_body(self) -> bytes | None:
        """The whole body, when all of it has arrived; none otherwise."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `OSError` when the connection breaks."""

    def close(self) -> None:
        """Release the connection; what was not read is discarded."""


class PeerClient(Protocol):
    """A client of one process."""

    async def request(self, method: str, target: bytes, headers: HeaderList, body: RequestBody = None) -> PeerResponse:
        """Send a request and wait for the head of its response.

        Raises `OSError` when none comes, and what `body` raises.
        """

    async def close(self) -> None:
        """Close all connections."""

"""What a client of another process offers, whatever its transport: a Unix socket or TLS."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

Head = Sequence[tuple[bytes, bytes]]
Content = bytes | AsyncIterator[bytes] | None
"""The body of a request: whole, piece by piece, or none."""

CONNECT_SECONDS = 2.0
SILENCE_SECONDS = 90.0
"""How long an answer may pause; more than any long poll and any beat of a stream."""
WHOLE_BYTES = 64 * 1024
"""An answer that says it is no longer than this is awaited whole."""


class PeerResponse(Protocol):
    """What came back, from wherever the other process is."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""

    @property
    def whole(self) -> bytes | None:
        """The whole body, where all of it is here."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `OSError` when it breaks off."""

    def close(self) -> None:
        """It was read, or nobody wants the rest."""


class PeerClient(Protocol):
    """The connections to one process, wherever it is."""

    async def ask(self, method: str, target: bytes, head: Head, content: Content = None) -> PeerResponse:
        """Send a request and wait for the head of its answer. Raises `OSError` when none comes, and what `content` raises."""

    async def close(self) -> None:
        """End all of them."""

"""The miner's HTTP client: outbound calls with timeouts, retried with exponential backoff and jitter."""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

PROTOCOL = {"Aitbc-Miner-Protocol": "1"}
TIMEOUT_SECONDS = 20.0
BACKOFF_SECONDS_MAX = 10.0
PIECE_BYTES = 1 << 16
API = "/api/v1"


class Unreachable(Exception):
    """No answer, or one that says try again: retrying is right."""


class Refused(Exception):
    """A definite refusal: retrying would not help."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.status = status
        self.code = code


class MinerClient:
    """Speaks for one miner to one server."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = dict(PROTOCOL) | ({"Authorization": f"Bearer {key}"} if key else {})
        self._session = aiohttp.ClientSession(
            headers=headers, connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, trust_env=False
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, *, seconds: float = TIMEOUT_SECONDS) -> Any:
        """One attempt. Raises `Unreachable`, `Refused`."""
        content = {"json": body} if body is not None else {}
        try:
            async with self._session.request(
                method,
                self.url + API + path,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
                **content,
            ) as answer:
                return _definite(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def call_until_answered(self, method: str, path: str, body: Any = None) -> Any:
        """Retry with backoff until the answer is definite. Raises `Refused`."""
        async for _ in attempts_with_backoff():
            try:
                return await self.call(method, path, body)
            except Unreachable:
                continue
        raise AssertionError("attempts never end")

    async def download(self, artifact: str, digest: str, size: int, to: Path) -> None:
        """An artifact into a file, held against its size and digest. Raises `Unreachable`, `Refused`, `ValueError`."""
        found, left = hashlib.sha256(), size
        try:
            async with self._session.get(
                f"{self.url}{API}/ai/artifacts/{artifact}", timeout=aiohttp.ClientTimeout(total=None, sock_read=30)
            ) as answer:
                if answer.status != 200:
                    _definite(answer.status, await answer.read())
                with to.open("xb") as file:
                    async for piece in answer.content.iter_chunked(PIECE_BYTES):
                        left -= len(piece)
                        if left < 0:
                            raise ValueError(f"the artifact {artifact} is larger than its {size} bytes")
                        found.update(piece)
                        file.write(piece)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            to.unlink(missing_ok=True)  # noqa: ASYNC240 - a small local file
            raise Unreachable(str(error)) from error
        if left or f"sha256:{found.hexdigest()}" != digest:
            raise ValueError(f"the artifact {artifact} is not what its digest says")

    async def upload(self, attempt: str, file: Path) -> Any:
        """A file as an artifact of a live lease. Raises `Unreachable`, `Refused`."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}  # noqa: ASYNC240
        try:
            async with self._session.post(
                f"{self.url}{API}/ai/artifacts",
                params={"attempt": attempt},
                data=_pieces(file),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
            ) as answer:
                return _definite(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(str(error)) from error


def _definite(status: int, content: bytes) -> Any:
    if status in (408, 429) or status >= 500:
        raise Unreachable(f"HTTP {status}")
    try:
        value = json.loads(content) if content else None
    except ValueError:
        raise Unreachable(f"HTTP {status} without JSON") from None
    if 200 <= status < 300:
        return value
    problem = value if isinstance(value, dict) else {}
    raise Refused(status, str(problem.get("code", "unknown")), str(problem.get("detail", f"HTTP {status}")))


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as content:
        while piece := content.read(PIECE_BYTES):
            yield piece


def backoff_seconds(failures: int) -> float:
    """The backoff after so many failures in a row: half a second at first, ten seconds at most, with jitter."""
    jitter = random.uniform(0.5, 1.0)
    return float(min(0.5 * 2 ** min(failures, 10), BACKOFF_SECONDS_MAX) * jitter)


async def attempts_with_backoff() -> AsyncIterator[int]:
    """Counts attempts, from 0, with a backoff before each but the first; it never ends by itself."""
    tries = 0
    while True:
        yield tries
        await asyncio.sleep(backoff_seconds(tries))
        tries += 1

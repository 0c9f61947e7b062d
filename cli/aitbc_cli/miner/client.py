"""The miner's HTTP client: outbound calls with timeouts, retried with exponential backoff and jitter."""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from aitbc_cli.miner.options import MinerFailed
from aitbc_cli.problems import explained, own_problem

PROTOCOL = {"Aitbc-Miner-Protocol": "1"}
TIMEOUT_SECONDS = 20.0
BACKOFF_SECONDS_MAX = 10.0
PIECE_BYTES = 1 << 16
SILENT_SECONDS_MAX = 150.0
"""The longest silence of a WebSocket: the server pings it every twenty seconds."""
MESSAGE_BYTES_MAX = 1 << 17
API = "/api/v1"
Fields = Mapping[str, type[Any] | tuple[type[Any], ...]]
"""The fields that an answer must have, and their types: an answer without them came from something on the way."""
OUTCOME: Fields = {"job": str, "state": str}
LEASES: Fields = {"leases": list}
KEPT: Fields = {"kept": int}
WORK: Fields = {**LEASES, "status": str}
ENDED: Fields = {"ended": list}
HEARTBEAT: Fields = {**LEASES, "heartbeat_seconds": (int, float)}
REJECTIONS = frozenset({401, 403, 404, 409, 426})
"""Statuses of a heartbeat's answer after which the miner ends: its key, its version or its record is refused."""


class Unreachable(Exception):
    """No answer, one that says try again, or one that is not the server's own: retrying is right."""


class Refused(Exception):
    """A definite refusal by the server itself: retrying would not help."""

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

    async def call(
        self, method: str, path: str, body: Any = None, *, expects: Fields, seconds: float = TIMEOUT_SECONDS
    ) -> Any:
        """One attempt; returns an object with the fields expected. Raises `Unreachable`, `Refused`."""
        content = {"json": body} if body is not None else {}
        try:
            async with self._session.request(
                method,
                self.url + API + path,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
                **content,
            ) as answer:
                return _definite(answer.status, await answer.read(), expects)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def call_until_answered(self, method: str, path: str, body: Any = None, *, expects: Fields) -> Any:
        """Retry with backoff until the answer is definite. Raises `Refused`."""
        async for _ in attempts_with_backoff():
            try:
                return await self.call(method, path, body, expects=expects)
            except Unreachable:
                continue
        raise AssertionError("attempts never end")

    async def socket(self, path: str, url: str | None = None) -> "aiohttp.ClientWebSocketResponse[bool]":
        """A WebSocket to a path of the server, or of the one of several that is named. Raises `Unreachable`."""
        try:
            return await self._session.ws_connect(
                (url or self.url) + path,
                timeout=aiohttp.ClientWSTimeout(ws_receive=SILENT_SECONDS_MAX, ws_close=5.0),
                max_msg_size=MESSAGE_BYTES_MAX,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def download(self, artifact: str, digest: str, size: int, to: Path) -> None:
        """An artifact into a file, held against its size and digest. Raises `Unreachable`, `Refused`, `ValueError`."""
        found, left = hashlib.sha256(), size
        try:
            async with self._session.get(
                f"{self.url}{API}/ai/artifacts/{artifact}",
                timeout=aiohttp.ClientTimeout(total=None, sock_read=30),
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    _definite(answer.status, await answer.read(), {})
                    raise Unreachable(f"HTTP {answer.status} instead of an artifact")
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
                allow_redirects=False,
            ) as answer:
                return _definite(answer.status, await answer.read(), {"id": str, "digest": str})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(str(error)) from error


def _definite(status: int, content: bytes, expects: Fields) -> Any:
    """What the server itself said. Whatever else stands between may be gone a moment later: raises `Unreachable`."""
    if status in (408, 429) or status >= 500:
        raise Unreachable(f"HTTP {status}")
    if not 200 <= status < 300:
        problem = own_problem(status, content)
        if problem is None:
            raise Unreachable(f"HTTP {status}, not from the server itself")
        raise Refused(status, problem["code"], explained(problem))
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise Unreachable(f"HTTP {status} without JSON") from None
    if not isinstance(value, dict) or not all(isinstance(value.get(name), kind) for name, kind in expects.items()):
        raise Unreachable(f"HTTP {status} without the fields of the server's answer")
    return value


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as content:
        while piece := content.read(PIECE_BYTES):
            yield piece


def rejected(refused: Refused) -> MinerFailed:
    """Why the miner cannot go on after this refusal."""
    if refused.status == 401:
        return MinerFailed(f"the server does not accept this miner's key: {refused}; enrol it again", 4)
    return MinerFailed(f"the server has no place for this miner: {refused}", 4 if refused.status == 403 else 5)


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

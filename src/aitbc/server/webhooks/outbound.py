"""What is sent to places outside under the egress policy of webhooks: a GET, a POST, or one TCP connection."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from aitbc.kernel.hooks.remote import Reply
from aitbc.kernel.platform import Unreachable
from aitbc.server.webhooks.egress import EgressPolicy, NotPublic

REFUSED = "its name leads to an address that is not public"
SILENT = "no answer in time"
ANSWER_BYTES_MAX = 1024 * 1024
"""What is read of an answer."""
TOO_LONG = "its answer is longer than it may be"


class Outbound:
    """What modules may send outside by themselves."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._resolver: Any = None

    def check(self, url: str) -> None:
        """Check a URL as it is written. Raises `DestinationRefused`."""
        self._policy.check(url)

    def check_address(self, host: str, port: int) -> None:
        """Check a host and port as they are written. Raises `DestinationRefused`."""
        self._policy.check_address(host, port)

    async def get(self, url: str, seconds: float) -> int:
        """The status that a GET is answered with; redirects are not followed, bodies not read. Raises `Unreachable`."""
        return (await self._send("GET", url, b"", {}, seconds=seconds, most=None)).status

    async def fetch(self, url: str, seconds: float, *, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """GET a URL, or POST a JSON body to it, and read the answer; no redirect is followed. Raises `Unreachable`."""
        self._policy.check(url)
        method = "GET" if body is None else "POST"
        return await self._send(method, url, body or b"", headers, seconds=seconds, most=ANSWER_BYTES_MAX)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, most: int) -> Reply:
        """The answer to a POST, of at most so many bytes; redirects are not followed.

        Raises `DestinationRefused`, `Unreachable`.
        """
        self._policy.check(url)
        return await self._send("POST", url, body, headers, seconds=seconds, most=most)

    async def _send(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, most: int | None
    ) -> Reply:
        """An answer, its body read where it may have `most` bytes. Raises `Unreachable`."""
        import aiohttp  # noqa: PLC0415 - loaded only where there is something to send

        from aitbc.server.webhooks.egress_client import new_session, reason_of  # noqa: PLC0415

        try:
            async with (
                new_session(self._policy, seconds) as session,
                session.request(method, url, data=body or None, headers=headers, allow_redirects=False) as response,
            ):
                content = b"" if most is None else await _body(response.content, most)
                found = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, found, content)
        except TimeoutError:
            raise Unreachable(SILENT) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(_reason(error, reason_of(error))) from None

    async def connect(self, host: str, port: int, seconds: float) -> None:
        """Open a TCP connection to an address of a name, and close it. Raises `Unreachable`."""
        try:
            async with asyncio.timeout(seconds):
                await self._connect(host.strip("[]"), port)
        except TimeoutError:
            raise Unreachable(SILENT) from None
        except OSError as error:
            raise Unreachable(_reason(error, "nothing listens there")) from None

    async def _connect(self, host: str, port: int) -> None:
        from aitbc.server.webhooks.egress_client import resolver  # noqa: PLC0415 - it loads aiohttp

        if self._resolver is None:
            self._resolver = resolver(self._policy)
        failure: OSError = OSError("its name leads nowhere")
        for one in await self._resolver.resolve(host, port):
            address = (one["family"], socket.SOCK_STREAM, one["proto"], "", (one["host"], port))
            with self._policy.open_socket(address) as opened:
                opened.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(opened, (one["host"], port))
                except OSError as error:
                    failure = error
                else:
                    return
        raise failure


async def _body(content: Any, most: int) -> bytes:
    """All of an answer. Raises `Unreachable` for one that is too long."""
    found = b""
    async for chunk in content.iter_chunked(4096):
        found += chunk
        if len(found) > most:
            raise Unreachable(TOO_LONG)
    return found


def _reason(error: BaseException, usual: str | None) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NotPublic):
            return REFUSED
        cause = getattr(cause, "os_error", None) or cause.__cause__
    return usual or "no connection to it could be made"

"""Streams an output to the server in parts while it is made; each answer says whether to go on."""

import asyncio

from aitbc_cli.miner.client import Refused, Unreachable
from aitbc_cli.miner.parts_sender import Body, PartsSender

STATUS_SECONDS = 1.0
"""How often the lease's status is asked for while there is no text."""
LOOK_SECONDS = 0.05
PART_LENGTH_MAX = 16_000
PARTS_AT_ONCE = 64
CHARACTERS_AT_ONCE = 64_000
RETRY_SECONDS = 1.0
LIVE = "live"


class OutputParts:
    """The parts of one attempt's output, numbered from 1, each sent until the server keeps it."""

    def __init__(self, sender: PartsSender, attempt: str, token: int) -> None:
        self._sender = sender
        self.attempt = attempt
        self._token = token
        self._buffer: list[str] = []
        self._parts: list[str] = []
        self._kept = 0
        self._heard = 0
        """How many came to the server: those after `_kept` it may still lose."""
        self._is_full = False
        """The server keeps no more text: from then on only the status is asked for."""
        self._is_unsupported = False
        """The server does not take parts."""
        self._is_sending = False
        """Whether a request is due or under way."""
        self._retry_at = 0.0
        self._asked_at = 0.0
        self._over: asyncio.Future[str] | None = None
        """Why the work should not go on, while it does."""

    def add(self, text: str) -> None:
        """More text of the output."""
        self._buffer.append(text)
        if not self._is_full:
            self._send_soon()

    @property
    def kept_text(self) -> str:
        """The text that the server keeps."""
        return "".join(self._parts[: self._kept])

    async def send_until_stopped(self) -> str:
        """Send until the work should not go on; returns why: `stop`, `canceled` or `lost`.

        The first text goes at once, and what comes meanwhile goes with the next request.
        """
        loop = asyncio.get_running_loop()
        over: asyncio.Future[str] = loop.create_future()
        self._over = over
        self._asked_at = loop.time()
        if self._buffer:
            self._send_soon()
        try:
            while not over.done():
                silent = 0.0 if self._is_sending else loop.time() - self._asked_at
                await asyncio.wait([over], timeout=max(STATUS_SECONDS - silent, LOOK_SECONDS))
                if loop.time() - self._asked_at >= STATUS_SECONDS:
                    self._send_soon()
            return over.result()
        finally:
            self._over = None

    async def send_rest(self) -> str:
        """Send the rest of a finished output, as far as the server can be reached; returns the last status."""
        self._heard = self._kept  # what was on its way may not have come
        while True:
            before = self._kept
            status = await self._send_alone(with_text=True)
            done = self._kept == len(self._parts) and not self._buffer
            if status != LIVE or done or self._kept == before:
                return status or LIVE

    async def ask(self) -> str | None:
        """Learn how much is stored. Returns the status, none where the server cannot be reached."""
        return await self._send_alone(with_text=False)

    # What the sender asks

    def take(self) -> Body | None:
        """What to send now: the next parts, or none of them as the question how it stands."""
        self._is_sending = self._over is not None
        if not self._is_sending:
            return None
        self._asked_at = asyncio.get_running_loop().time()
        return self._body(with_text=True)

    def answered(self, answer: Body) -> None:
        """How far it is kept, and whether to go on."""
        self._is_sending = False
        if (status := self._learn(answer)) != LIVE:
            self._end(status)
        elif not self._is_full and (self._buffer or self._heard < len(self._parts)):
            self._send_soon()

    def failed(self, error: Unreachable | Refused) -> None:
        """The server could not be reached, or refuses it."""
        self._is_sending = False
        if isinstance(error, Unreachable):
            self._heard = self._kept
            self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
        elif (status := self._refused(error)) != LIVE:
            self._end(status)

    def _end(self, status: str) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(status)

    def _send_soon(self) -> None:
        is_wanted = self._over is not None and not self._over.done() and not self._is_unsupported
        if is_wanted and not self._is_sending and asyncio.get_running_loop().time() >= self._retry_at:
            self._is_sending = True
            self._sender.send_soon(self, at_once=not self._parts and bool(self._buffer))

    async def _send_alone(self, *, with_text: bool) -> str | None:
        try:
            return self._learn(await self._sender.send_alone(self.attempt, self._body(with_text=with_text)))
        except Unreachable:
            return None
        except Refused as refused:
            return self._refused(refused)

    def _learn(self, answer: Body) -> str:
        self._kept = max(self._kept, int(answer["kept"]))
        self._heard = max(self._kept, int(answer.get("heard", 0)))  # less than before: a server that lost some
        return str(answer["status"])

    def _refused(self, refused: Refused) -> str:
        if refused.code == "lease_lost":
            return "lost"
        if refused.code == "parts_too_large":
            self._is_full = True
        else:
            self._is_unsupported = True
        return LIVE

    def _body(self, *, with_text: bool) -> Body:
        self._number()
        return {"token": self._token, "parts": self._next() if with_text and not self._is_full else []}

    def _number(self) -> None:
        text = "".join(self._buffer)
        self._buffer.clear()
        self._parts += [text[start : start + PART_LENGTH_MAX] for start in range(0, len(text), PART_LENGTH_MAX)]

    def _next(self) -> list[dict[str, object]]:
        parts: list[dict[str, object]] = []
        characters = 0
        for sequence, text in enumerate(self._parts[self._heard :], self._heard + 1):
            characters += len(text)
            if len(parts) == PARTS_AT_ONCE or (parts and characters > CHARACTERS_AT_ONCE):
                break
            parts.append({"sequence": sequence, "text": text})
        return parts

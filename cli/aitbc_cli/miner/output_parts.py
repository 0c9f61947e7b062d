"""Streams an output to the server in parts while it is made; each answer says whether to go on."""

import asyncio

from aitbc.kernel.primitives.tasks import is_set_within
from aitbc_cli.miner.client import Refused, Unreachable
from aitbc_cli.miner.parts_sender import PartsSender

STATUS_SECONDS = 1.0
"""How often the lease's status is asked for while there is no text."""
PART_LENGTH_MAX = 16_000
PARTS_AT_ONCE = 64
CHARACTERS_AT_ONCE = 64_000
RETRY_SECONDS = 1.0
LIVE = "live"


class OutputParts:
    """The parts of one attempt's output, numbered from 1, each sent until the server keeps it."""

    def __init__(self, sender: PartsSender, attempt: str, token: int) -> None:
        self._sender = sender
        self._attempt = attempt
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
        self._new_text = asyncio.Event()

    def add(self, text: str) -> None:
        """More text of the output."""
        self._buffer.append(text)
        self._new_text.set()

    @property
    def kept_text(self) -> str:
        """The text that the server keeps."""
        return "".join(self._parts[: self._kept])

    async def send_until_stopped(self) -> str:
        """Send batches until the work should not go on; returns why: `stop`, `canceled` or `lost`.

        The first text goes at once, and what comes meanwhile goes with the next batch.
        """
        while True:
            await is_set_within(self._new_text, STATUS_SECONDS)
            if self._is_unsupported:
                await asyncio.Event().wait()
            status = await self.send()
            if status not in (None, LIVE):
                return str(status)
            if status is None:
                await asyncio.sleep(RETRY_SECONDS)

    async def send_rest(self) -> str:
        """Send the rest of a finished output, as far as the server can be reached; returns the last status."""
        while True:
            before = self._kept, self._heard
            status = await self.send()
            done = self._kept == len(self._parts) and not self._buffer
            if status != LIVE or done or (self._kept, self._heard) == before:
                return status or LIVE

    async def send(self) -> str | None:
        """Send one batch, or, where there is nothing new, ask how much is stored.

        Returns the status of the lease, none where the server cannot be reached.
        """
        self._new_text.clear()
        self._number()
        return await self._send(None if self._is_full else self._next())

    async def ask(self) -> str | None:
        """Learn how much is stored. Returns as `send`."""
        return await self._send(None)

    async def _send(self, parts: list[dict[str, object]] | None) -> str | None:
        body = {"token": self._token, "parts": parts or []}
        try:
            answer = await self._sender.send(self._attempt, body)
        except Unreachable:
            self._heard = self._kept
            self._new_text.set()
            return None
        except Refused as refused:
            return self._refused(refused)
        self._kept = max(self._kept, int(answer["kept"]))
        self._heard = max(self._kept, int(answer.get("heard", 0)))  # less than before: a server that lost some
        if self._heard < len(self._parts) and not self._is_full:
            self._new_text.set()
        return str(answer["status"])

    def _refused(self, refused: Refused) -> str:
        if refused.code == "lease_lost":
            return "lost"
        if refused.code == "parts_too_large":
            self._is_full = True
        else:
            self._is_unsupported = True
        return LIVE

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

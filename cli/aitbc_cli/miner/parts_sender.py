"""Sends the parts of all outputs of a miner: those that wait at one moment go in one request."""

import asyncio
from collections import deque
from typing import Any, Protocol

from aitbc_cli.miner.client import KEPT, Fields, MinerClient, Refused, Unreachable

PATH = "/gpu/parts"
LEASES_AT_ONCE = 64
CHARACTERS_AT_ONCE = 192_000
"""What one request may carry; a single lease sends less."""
GAP_SECONDS = 0.015
"""How far requests are apart at least: what comes meanwhile goes with the next one. A first one goes at once."""
TIMEOUT_SECONDS = 5.0
ANSWER: Fields = {**KEPT, "status": str}
ANSWERS: Fields = {"leases": list}
UNKNOWN_ROUTE = frozenset({404, 405})

Body = dict[str, Any]


class Sending(Protocol):
    """One lease that has something to send."""

    attempt: str

    def take(self) -> Body | None:
        """What to send now; none where nobody wants it sent any more."""
        ...

    def answered(self, answer: Body) -> None:
        """How far it is kept, and whether to go on."""
        ...

    def failed(self, error: Unreachable | Refused) -> None:
        """The server could not be reached, or refuses it."""
        ...


class PartsSender:
    """Gathers what the leases of a miner have to send, and tells each what came of it: no task waits for any."""

    def __init__(self, client: MinerClient) -> None:
        self._client = client
        self._waiting: deque[Sending] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._first: set[asyncio.Task[None]] = set()
        """Requests with the first words of an output, for which somebody waits."""
        self._is_known = True
        """Whether the server takes many leases at once; an older one does not."""

    def send_soon(self, lease: Sending, *, at_once: bool) -> None:
        """Send what a lease has with the next request, or in one of its own."""
        if at_once:
            task = asyncio.create_task(self._send_batch([lease]))
            self._first.add(task)
            task.add_done_callback(self._first.discard)
            return
        self._waiting.append(lease)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting())

    async def send_alone(self, attempt: str, body: Body) -> Body:
        """The answer to the parts of one lease, which are stored before it comes. Raises `Unreachable`, `Refused`."""
        path = f"/gpu/leases/{attempt}/parts"
        answer: Body = await self._client.call("POST", path, body, expects=ANSWER, seconds=TIMEOUT_SECONDS)
        return answer

    async def _send_waiting(self) -> None:
        await asyncio.sleep(0)  # with all that comes in this turn of the loop
        while self._waiting:
            await self._send_batch([self._waiting.popleft() for _ in range(min(len(self._waiting), LEASES_AT_ONCE))])
            await asyncio.sleep(GAP_SECONDS)

    async def _send_batch(self, leases: list[Sending]) -> None:
        """Send what these have, in as many requests as its length needs."""
        batch: list[tuple[Sending, Body]] = []
        characters = 0
        for lease in leases:
            body = lease.take()
            if body is None:
                continue
            length = sum(len(part["text"]) for part in body["parts"])
            if batch and characters + length > CHARACTERS_AT_ONCE:
                await self._send(batch)
                batch, characters = [], 0
            batch.append((lease, body))
            characters += length
        if batch:
            await self._send(batch)

    async def _send(self, batch: list[tuple[Sending, Body]]) -> None:
        if not self._is_known:
            for lease, body in batch:
                await self._send_one(lease, body)
            return
        told = [{"attempt": lease.attempt, **body} for lease, body in batch]
        try:
            answer = await self._client.call("POST", PATH, {"leases": told}, expects=ANSWERS, seconds=TIMEOUT_SECONDS)
        except Refused as refused:
            if refused.status in UNKNOWN_ROUTE:
                self._is_known = False
                await self._send(batch)
                return
            _fail(batch, refused)
        except Unreachable as error:
            _fail(batch, error)
        else:
            for (lease, _), kept in zip(batch, answer["leases"], strict=False):
                _settle(lease, kept)
            _fail(batch[len(answer["leases"]) :], Unreachable("no answer for this lease"))

    async def _send_one(self, lease: Sending, body: Body) -> None:
        try:
            lease.answered(await self.send_alone(lease.attempt, body))
        except (Unreachable, Refused) as error:
            lease.failed(error)


def _fail(batch: list[tuple[Sending, Body]], error: Unreachable | Refused) -> None:
    for lease, _ in batch:
        lease.failed(error)


def _settle(lease: Sending, kept: Body) -> None:
    if kept.get("refused") is not None:
        lease.failed(Refused(409, str(kept["refused"]), str(kept["refused"])))
    else:
        lease.answered(kept)

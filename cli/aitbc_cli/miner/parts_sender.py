"""Sends the parts of all outputs of a miner: those that wait at one moment go in one request."""

import asyncio
from typing import Any

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


class PartsSender:
    """Gathers what the leases of a miner have to send. Its calls answer and raise as those of a single lease do."""

    def __init__(self, client: MinerClient) -> None:
        self._client = client
        self._waiting: list[tuple[str, Body, asyncio.Future[Body]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._is_known = True
        """Whether the server takes many leases at once; an older one does not."""

    async def send(self, attempt: str, body: Body) -> Body:
        """The answer to the parts of one lease. Raises `Unreachable`, `Refused`."""
        if not self._is_known:
            path = f"/gpu/leases/{attempt}/parts"
            answer: Body = await self._client.call("POST", path, body, expects=ANSWER, seconds=TIMEOUT_SECONDS)
            return answer
        future: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        if any(part["sequence"] == 1 for part in body["parts"]):
            await self._send_batch([(attempt, body, future)])  # somebody waits for the first words
            return await future
        self._waiting.append((attempt, body, future))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting())
        return await future

    async def _send_waiting(self) -> None:
        await asyncio.sleep(0)  # with all that comes in this turn of the loop
        while self._waiting:
            batch = self._batch()
            if batch:
                await self._send_batch(batch)
                await asyncio.sleep(GAP_SECONDS)

    def _batch(self) -> list[tuple[str, Body, asyncio.Future[Body]]]:
        batch: list[tuple[str, Body, asyncio.Future[Body]]] = []
        characters = 0
        while self._waiting and len(batch) < LEASES_AT_ONCE:
            attempt, body, future = self._waiting[0]
            characters += sum(len(part["text"]) for part in body["parts"])
            if batch and characters > CHARACTERS_AT_ONCE:
                break
            del self._waiting[0]
            if not future.done():  # its work was given up meanwhile
                batch.append((attempt, body, future))
        return batch

    async def _send_batch(self, batch: list[tuple[str, Body, asyncio.Future[Body]]]) -> None:
        leases = [{"attempt": attempt, **body} for attempt, body, _ in batch]
        problem: Unreachable | Refused = Unreachable("no answer for this lease")
        try:
            answer = await self._client.call("POST", PATH, {"leases": leases}, expects=ANSWERS, seconds=TIMEOUT_SECONDS)
            for (_, _, future), kept in zip(batch, answer["leases"], strict=False):
                _settle(future, kept)
        except Refused as refused:
            problem = refused
            if refused.status in UNKNOWN_ROUTE:
                self._is_known = False
                problem = Unreachable("an older server: each lease is sent by itself")
        except Unreachable as error:
            problem = error
        finally:
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(problem)


def _settle(future: "asyncio.Future[Body]", kept: Body) -> None:
    if future.done():
        return
    if kept.get("refused") is not None:
        future.set_exception(Refused(409, str(kept["refused"]), str(kept["refused"])))
    else:
        heard = int(kept.get("heard", kept["kept"]) or 0)
        future.set_result({"status": str(kept["status"]), "kept": int(kept["kept"]), "heard": heard})

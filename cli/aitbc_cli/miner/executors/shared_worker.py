"""A worker process that does many pieces of work at once: one for all chats of a miner, which mostly wait for a server.

Each question has a number, its answers and progress carry it, and work that is given up is canceled by it.
"""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aitbc_cli.miner.executors import framing
from aitbc_cli.miner.executors.work import Progress, WorkFailed
from aitbc_cli.miner.executors.worker_process import WorkerLost, WorkerProcess


class _Asked:
    """A question whose answer is waited for; what is reported before it is passed on as it comes."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    @property
    def has_answer(self) -> bool:
        """Whether the worker has said its last word."""
        return self.answer.done() and not self.answer.cancelled() and self.answer.exception() is None

    def take(self, answer: dict[str, Any]) -> None:
        """One frame for it."""
        if self.answer.done():
            return
        if answer.get("is") != "progress":
            self.answer.set_result(answer)
            return
        try:
            self._on_progress(Progress(answer["fraction"], answer["lines"], answer["text"]))
        except KeyError as error:
            self.answer.set_exception(WorkerLost(str(error)))

    def give_up(self) -> None:
        """The process has ended."""
        if not self.answer.done():
            self.answer.set_exception(WorkerLost("The stream ended."))


class SharedWorker(WorkerProcess):
    """The pool's hold on such a process."""

    def __init__(self, kind: str, process: asyncio.subprocess.Process, marker: str, scratch: Path) -> None:
        super().__init__(kind, process, marker, scratch)
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        """By the number of a question: who waits for its answer."""
        self._reading = asyncio.create_task(self._read())

    @property
    def is_asked(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._asked)

    async def kill(self) -> None:
        """End the worker."""
        await super().kill()
        self._reading.cancel()

    async def _ask(self, message: dict[str, Any], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        """Send a message and take its answer, passing on what is reported before it."""
        number = next(self._numbers)
        asked = self._asked[number] = _Asked(on_progress)
        try:
            await self._send({**message, "id": number})
            answer = await asked.answer
        except ConnectionError as error:
            raise WorkerLost(str(error)) from None
        finally:
            del self._asked[number]
            if not asked.has_answer and self.alive:
                self._cancel(number)
        if answer.get("is") == "failed":
            raise WorkFailed(**answer["failure"])
        return answer

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            frame = framing.encode_frame(message, limit=framing.TO_WORKER_BYTES)
        except (framing.FrameError, ValueError, TypeError, RecursionError):
            limit = framing.TO_WORKER_BYTES
            raise WorkFailed("requester", "invalid_input", f"The input is not JSON of up to {limit} bytes.") from None
        self._process.stdin.write(frame)
        await self._process.stdin.drain()

    def _cancel(self, number: int) -> None:
        """Nobody wants the answer any more."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            message = {"do": "cancel", "id": number}
            self._process.stdin.write(framing.encode_frame(message, limit=framing.TO_WORKER_BYTES))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                answer = await framing.receive_frame(self._process.stdout, limit=framing.FROM_WORKER_BYTES)
                for one in answer["answers"] if answer.get("is") == "several" else (answer,):
                    if (asked := self._asked.get(int(one.pop("id", 0)))) is not None:
                        asked.take(one)
        except (framing.FrameError, ConnectionError, ValueError, TypeError, KeyError, AttributeError):
            pass
        finally:
            for asked in self._asked.values():
                asked.give_up()

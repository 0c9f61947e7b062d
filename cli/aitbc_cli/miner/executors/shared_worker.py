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


class SharedWorker(WorkerProcess):
    """The pool's hold on such a process."""

    def __init__(self, kind: str, process: asyncio.subprocess.Process, marker: str, scratch: Path) -> None:
        super().__init__(kind, process, marker, scratch)
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        """By the number of a question: what came for it; nothing at all once the process has ended."""
        self._reading = asyncio.create_task(self._read())

    @property
    def is_asked(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._answers)

    async def kill(self) -> None:
        """End the worker."""
        await super().kill()
        self._reading.cancel()

    async def _ask(self, message: dict[str, Any], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        """Send a message and take its answer, passing on what is reported before it."""
        number = next(self._numbers)
        answers = self._answers[number] = asyncio.Queue()
        answer: dict[str, Any] | None = None
        try:
            await self._send({**message, "id": number})
            while (answer := await answers.get()) is not None and answer.get("is") == "progress":
                on_progress(Progress(answer["fraction"], answer["lines"], answer["text"]))
        except (ConnectionError, KeyError) as error:
            raise WorkerLost(str(error)) from None
        finally:
            del self._answers[number]
            if (answer is None or answer.get("is") == "progress") and self.alive:
                self._cancel(number)
        if answer is None:
            raise WorkerLost("The stream ended.")
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
                waiting = self._answers.get(int(answer.pop("id", 0)))
                if waiting is not None:
                    waiting.put_nowait(answer)
        except (framing.FrameError, ConnectionError, ValueError, TypeError):
            pass
        finally:
            for waiting in self._answers.values():
                waiting.put_nowait(None)

"""The inside of a worker process that does many pieces of work at once: a thread for each, which mostly waits."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, Protocol, runtime_checkable

from aitbc_cli.miner.executors import framing
from aitbc_cli.miner.executors.worker import Reporter, Worker

STACK_BYTES = 512 * 1024
CHARACTERS_AT_ONCE = 50_000
"""How much text is gathered for one frame: it fits into one, however it is written."""


@runtime_checkable
class CancellableExecutor(Protocol):
    """An executor whose work is done in threads and can be given up."""

    def cancel(self, thread: int) -> None:
        """Give up the work of a thread, as far as it has any."""

    def forget(self, thread: int) -> None:
        """The work of a thread has ended; its number may be another's soon."""

    def report_together(self, together: Callable[[], AbstractContextManager[None]]) -> None:
        """Report what one thread has to say of several pieces of work within such a context: it goes in one frame."""


class ThreadedWorker(Worker):
    """Answers each frame in a thread of its own, by the frame's number."""

    def __init__(self, kind: str, outgoing: BinaryIO) -> None:
        super().__init__(kind, outgoing)
        threading.stack_size(STACK_BYTES)
        self._sending = threading.Lock()
        self._here = threading.local()
        self._changing = threading.Lock()
        """Held while work ends or is canceled: a number must not be taken for that of the next thread."""
        self._threads: dict[int, int] = {}
        """By the number of a frame: the thread that works on it."""

    def serve(self, incoming: BinaryIO) -> None:
        """Serve frames until the pool closes the stream."""
        while (message := framing.read_frame(incoming, limit=framing.TO_WORKER_BYTES)) is not None:
            if message["do"] == "cancel":
                self._cancel(int(message["id"]))
            elif message["do"] == "open":
                self._answer_one(message)
            else:
                threading.Thread(target=self._answer_one, args=(message,), daemon=True).start()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread sends meanwhile goes in one frame, or in few."""
        held: list[dict[str, Any]] = []
        self._here.held, self._here.length = held, 0
        try:
            yield
        finally:
            self._here.held = None
            self._send_held(held)

    def _open(self, options: Mapping[str, Any]) -> dict[str, Any]:
        answer = super()._open(options)
        if (executor := self._cancellable) is not None:
            executor.report_together(self.together)
        return answer

    def _answer_one(self, message: dict[str, Any]) -> None:
        number, thread = int(message["id"]), threading.get_ident()
        self._here.number = number
        self._threads[number] = thread
        try:
            self._send(self._answer(message))
        finally:
            with self._changing:
                del self._threads[number]
                if (executor := self._cancellable) is not None:
                    executor.forget(thread)

    def _cancel(self, number: int) -> None:
        with self._changing:
            thread = self._threads.get(number)
            if thread is not None and (executor := self._cancellable) is not None:
                executor.cancel(thread)

    @property
    def _cancellable(self) -> CancellableExecutor | None:
        executor: object = self._executor
        return executor if isinstance(executor, CancellableExecutor) else None

    def _reporter(self) -> Reporter:
        number = self._here.number  # it may be another thread that reports
        return Reporter(lambda message: self._send_as(number, message))

    def _send(self, message: dict[str, Any]) -> None:
        self._send_as(self._here.number, message)

    def _send_as(self, number: int, message: dict[str, Any]) -> None:
        held = getattr(self._here, "held", None)
        if held is None:
            self._write({**message, "id": number})
            return
        length = len(message.get("text", ""))
        if self._here.length + length > CHARACTERS_AT_ONCE:
            self._send_held(held)
        self._here.length += length
        held.append({**message, "id": number})

    def _send_held(self, held: list[dict[str, Any]]) -> None:
        if held:
            self._write(held[0] if len(held) == 1 else {"is": "several", "answers": held})
            held.clear()
        self._here.length = 0

    def _write(self, message: dict[str, Any]) -> None:
        with self._sending:
            super()._send(message)

"""The inside of a worker process that does many pieces of work at once: a thread for each, which mostly waits."""

import threading
from typing import Any, BinaryIO, Protocol, runtime_checkable

from aitbc_cli.miner.executors import framing
from aitbc_cli.miner.executors.worker import Worker

STACK_BYTES = 512 * 1024


@runtime_checkable
class CancellableExecutor(Protocol):
    """An executor whose work is done in threads and can be given up."""

    def cancel(self, thread: int) -> None:
        """Give up the work of a thread, as far as it has any."""

    def forget(self, thread: int) -> None:
        """The work of a thread has ended; its number may be another's soon."""


class ThreadedWorker(Worker):
    """Answers each frame in a thread of its own, by the frame's number."""

    def __init__(self, kind: str, outgoing: BinaryIO) -> None:
        super().__init__(kind, outgoing)
        threading.stack_size(STACK_BYTES)
        self._sending = threading.Lock()
        self._here = threading.local()
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

    def _answer_one(self, message: dict[str, Any]) -> None:
        number, thread = int(message["id"]), threading.get_ident()
        self._here.number = number
        self._threads[number] = thread
        try:
            self._send(self._answer(message))
        finally:
            del self._threads[number]
            if (executor := self._cancellable) is not None:
                executor.forget(thread)

    def _cancel(self, number: int) -> None:
        thread = self._threads.get(number)
        if thread is not None and (executor := self._cancellable) is not None:
            executor.cancel(thread)

    @property
    def _cancellable(self) -> CancellableExecutor | None:
        executor: object = self._executor
        return executor if isinstance(executor, CancellableExecutor) else None

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            super()._send({**message, "id": self._here.number})

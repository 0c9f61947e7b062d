"""A worker process: does one kind of work, one piece after the other, as frames on its standard input say.

Started by the pool as `python -P -m aitbc_cli.miner.executors.worker KIND PARENT_PID`.
"""

import errno
import importlib
import logging
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from aitbc_cli.miner.executors import framing, process_tree
from aitbc_cli.miner.executors.fields import FieldError, read_integer
from aitbc_cli.miner.executors.work import (
    OF_PACKAGES,
    SHARED,
    Executor,
    Failure,
    Gpu,
    GpuExecutor,
    Outcome,
    Progress,
    Work,
    WorkFailed,
    is_of_package,
    runs_programs,
    with_big_output_in_file,
)

# Imported by name in the process of its kind only: no worker pays for the libraries of another.
EXECUTORS = {
    "embed": ("aitbc_cli.miner.executors.embed", "EmbedExecutor"),
    "rerank": ("aitbc_cli.miner.executors.rerank", "RerankExecutor"),
    "ocr": ("aitbc_cli.miner.executors.ocr", "OcrExecutor"),
    "chat": ("aitbc_cli.miner.executors.chat", "ChatExecutor"),
    "command": ("aitbc_cli.miner.executors.command", "CommandExecutor"),
    "container": ("aitbc_cli.miner.executors.container", "ContainerExecutor"),
    OF_PACKAGES: ("aitbc_cli.miner.executors.package_kind", "PackageKindExecutor"),
}

_GIB = 1024 * 1024 * 1024
# Private memory of the worker itself; programs have limits of its own.
_MEMORY_BYTES = {"embed": 2 * _GIB, "rerank": 2 * _GIB, "ocr": 4 * _GIB, "chat": _GIB}
_OFFLINE = frozenset({"embed", "rerank", "ocr"})
_REPORT_SECONDS = 0.1
_LINES_A_REPORT = 200

log = logging.getLogger(__name__)


def main() -> None:
    """Serve frames until the pool closes the stream."""
    kind, parent = sys.argv[1], int(sys.argv[2])
    _bind_to_parent(kind, parent)
    incoming, outgoing = _take_streams()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    worker_of(kind, outgoing).serve(incoming)


def worker_of(kind: str, outgoing: BinaryIO) -> "Worker":
    """The worker of a kind: for one whose work mostly waits, many pieces at once."""
    if kind in SHARED:
        module = importlib.import_module("aitbc_cli.miner.executors.threaded_worker")
        made: Worker = module.ThreadedWorker(kind, outgoing)
        return made
    return Worker(kind, outgoing)


class Worker:
    """Holds the executor of its kind and answers frames."""

    def __init__(self, kind: str, outgoing: BinaryIO) -> None:
        self._kind = kind
        self._outgoing = outgoing
        self._executor: Executor | None = None

    def serve(self, incoming: BinaryIO) -> None:
        while (message := framing.read_frame(incoming, limit=framing.TO_WORKER_BYTES)) is not None:
            self._send(self._answer(message))

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            match message["do"]:
                case "open":
                    return self._open(message["options"])
                case "warm_up":
                    return {"is": "done", "detail": self._opened().warm_up()}
                case "try_gpu":
                    return {"is": "done", "detail": self._try_gpu(Gpu(**message["gpu"]))}
                case "run":
                    return {"is": "done", "outcome": _encoded(self._run(_work_of(message["work"])))}
                case other:
                    return _failed(Failure("platform", "crashed", f"A worker cannot do {other!r}."))
        except WorkFailed as error:
            return _failed(error.failure)
        except FieldError as error:
            # The options are the operator's; what comes with work is the requester's.
            if message["do"] == "run":
                return _failed(Failure("requester", "invalid_input", str(error)))
            return _failed(Failure("miner", "executor_unavailable", str(error)))
        except Exception as error:
            log.exception("%s worker failed", self._kind)
            return _failed(_failure_of(error))

    def _open(self, options: Mapping[str, Any]) -> dict[str, Any]:
        if not runs_programs(self._kind):
            _limit_memory(options.get("memory_bytes", _MEMORY_BYTES.get(self._kind)))
        if self._kind in _OFFLINE:
            sys.addaudithook(_refuse_connections)
        module, name = EXECUTORS[OF_PACKAGES if is_of_package(self._kind) else self._kind]
        try:
            self._executor = getattr(importlib.import_module(module), name)(options)
        except ModuleNotFoundError as error:
            message = f"The kind {self._kind} needs {error.name}; install it with: pip install 'aitbc[miner]'"
            raise WorkFailed("miner", "executor_unavailable", message) from None
        except ImportError as error:
            message = f"A library of the kind {self._kind} cannot be loaded: {error}"
            raise WorkFailed("miner", "executor_unavailable", message) from None
        return {"is": "done"}

    def _opened(self) -> Executor:
        if self._executor is None:
            raise WorkFailed("platform", "crashed", "The worker was not opened before its first work.")
        return self._executor

    def _try_gpu(self, gpu: Gpu) -> dict[str, Any]:
        executor = self._opened()
        if not isinstance(executor, GpuExecutor):
            raise WorkFailed("platform", "crashed", f"Work of kind {self._kind} gets no GPU.")
        return executor.try_gpu(gpu)

    def _run(self, work: Work) -> Outcome:
        reporter = self._reporter()
        outcome = self._opened().run(work, reporter.report)
        reporter.flush()
        return with_big_output_in_file(outcome, work.folder)

    def _reporter(self) -> "Reporter":
        return Reporter(self._send)

    def _send(self, message: dict[str, Any]) -> None:
        self._outgoing.write(framing.encode_frame(message, limit=framing.FROM_WORKER_BYTES))
        self._outgoing.flush()


class Reporter:
    """Batches progress, so that a chatty program costs ten frames a second and no more."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._lines: list[str] = []
        self._newest: deque[str] = deque(maxlen=_LINES_A_REPORT // 2)
        """The end of a batch that is too long: what a program says last is what matters."""
        self._dropped = 0
        self._text: list[str] = []
        self._fraction: float | None = None
        self._pending = False
        self._next = 0.0

    def report(self, progress: Progress) -> None:
        """Keep the newest fraction and the lines, and send them when it is time; text of the output is sent at once."""
        self._pending = True
        self._fraction = progress.fraction if progress.fraction is not None else self._fraction
        for line in progress.lines:
            if len(self._lines) < _LINES_A_REPORT // 2:
                self._lines.append(line)
            else:
                self._dropped += len(self._newest) == self._newest.maxlen
                self._newest.append(line)
        if progress.text:
            self._text.append(progress.text)
        if progress.text or time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Send the batch."""
        if not self._pending:
            return
        mark = [f"[{self._dropped} lines left out]"] if self._dropped else []
        lines = [*self._lines, *mark, *self._newest]
        self._send({"is": "progress", "fraction": self._fraction, "lines": lines, "text": "".join(self._text)})
        self._lines, self._text, self._dropped, self._pending = [], [], 0, False
        self._newest.clear()
        self._next = time.monotonic() + _REPORT_SECONDS


def _bind_to_parent(kind: str, parent: int) -> None:
    """End when the daemon ends, however it ends; a worker that starts programs takes them along."""
    if runs_programs(kind):
        process_tree.end_with_parent(parent)
        return
    process_tree.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # the daemon ended before the kernel was asked for the signal
        sys.exit(1)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take the two pipes away from everybody else: what a library prints goes to standard error."""
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def _limit_memory(limit: Any) -> None:
    """Bound the private memory of this process; what asks for more gets an error and not the machine's memory."""
    if limit is not None:
        size = read_integer(limit, "memory_bytes", least=16 * 1024 * 1024, most=2**40)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _refuse_connections(event: str, _arguments: tuple[Any, ...]) -> None:
    """An audit hook: the models are here, and nothing else is to be fetched or sent."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PermissionError("This worker makes no connections.")


def _work_of(message: Mapping[str, Any]) -> Work:
    files = {name: Path(path) for name, path in message["input_files"].items()}
    gpus = tuple(Gpu(**gpu) for gpu in message["gpus"] or ())
    return Work(**{**message, "folder": Path(message["folder"]), "input_files": files, "gpus": gpus})


def _encoded(outcome: Outcome) -> dict[str, Any]:
    return {
        "output": outcome.output,
        "output_files": {name: str(path) for name, path in outcome.output_files.items()},
        "usage": dict(outcome.usage),
        "error": asdict(outcome.error) if outcome.error else None,
    }


def _failed(failure: Failure) -> dict[str, Any]:
    return {"is": "failed", "failure": asdict(failure)}


def _failure_of(error: Exception) -> Failure:
    """The failure of an error that no executor foresaw."""
    said = str(error).lower()
    if isinstance(error, MemoryError) or "bad_alloc" in said or "failed to allocate" in said:
        return Failure("miner", "out_of_memory", "The work needed more memory than its worker may use.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("miner", "disk_full", "The disk of the miner is full.")
    return Failure("unknown", "crashed", f"The worker failed unexpectedly ({type(error).__name__}).")


if __name__ == "__main__":
    main()

"""The pool's hold on one worker process: start it, send it work, read its progress, end it with all it started."""

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aitbc_cli
from aitbc.kernel.primitives.tasks import finish
from aitbc_cli.miner.containers import runtime
from aitbc_cli.miner.containers.confinement import Owner
from aitbc_cli.miner.executors import framing, process_tree
from aitbc_cli.miner.executors.work import Failure, Gpu, Outcome, Progress, Work, WorkFailed, runs_programs

_START_SECONDS = 60.0
_STDERR_BYTES = 4096
_CONTAINER = "container"
_DAEMON = secrets.token_hex(8)
"""What containers of this process are told from those of an earlier one by."""

log = logging.getLogger(__name__)


class WorkerLost(Exception):
    """The worker ended, or spoke nonsense, while something was asked of it."""


class WorkerProcess:
    """A started and opened worker of one kind."""

    def __init__(self, kind: str, process: asyncio.subprocess.Process, marker: str, scratch: Path) -> None:
        self._kind = kind
        self._scratch = scratch
        self._process = process
        self._marker = marker
        self._complaints = b""
        self._listening = asyncio.create_task(self._keep_complaints())

    @classmethod
    async def start(cls, kind: str, options: Mapping[str, Any], *, scratch: Path, threads: int) -> "WorkerProcess":
        """A worker that loaded its libraries; raises WorkFailed if it cannot do its kind of work here."""
        marker = secrets.token_hex(16)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "aitbc_cli.miner.executors.worker",
            kind,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=framing.FROM_WORKER_BYTES + 4,
            cwd=scratch,
            env=_environment(scratch, threads) | (runtime.environment() if kind == _CONTAINER else {}),
            start_new_session=True,
        )
        worker = cls(kind, process, marker, scratch)
        settings = {**options, "threads": threads}
        if runs_programs(kind):
            settings["marker"] = marker
        if kind == _CONTAINER:
            settings |= {"miner": _miner_of(scratch), "daemon": _DAEMON}
        try:
            async with asyncio.timeout(_START_SECONDS):
                await worker._ask({"do": "open", "options": settings}, _ignore)
        except WorkerLost:
            await finish(worker.kill())
            raise WorkFailed("miner", "executor_unavailable", f"The {kind} worker did not start.") from None
        except TimeoutError:
            await finish(worker.kill())
            message = f"The {kind} worker did not start within {_START_SECONDS:g} seconds."
            raise WorkFailed("miner", "executor_unavailable", message) from None
        except BaseException:
            await finish(worker.kill())
            raise
        return worker

    @property
    def pid(self) -> int:
        """The process id, which is also that of its session and process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None

    @property
    def is_asked(self) -> bool:
        """Whether an answer is waited for. Of a worker that does one thing at a time, whoever has it knows."""
        return False

    async def warm_up(self) -> Mapping[str, Any]:
        """Have a first small piece of work done; returns what the executor says about itself."""
        answer = await self._ask({"do": "warm_up"}, _ignore)
        detail: Mapping[str, Any] = answer.get("detail", {})
        return detail

    async def try_gpu(self, gpu: Gpu) -> Mapping[str, Any]:
        """Have a program of the miner's own use a GPU; returns what it ran on. Raises WorkFailed where that failed."""
        answer = await self._ask({"do": "try_gpu", "gpu": asdict(gpu)}, _ignore)
        detail: Mapping[str, Any] = answer.get("detail", {})
        return detail

    async def run(self, work: Work, on_progress: Callable[[Progress], None]) -> Outcome:
        """The outcome of the work; raises WorkFailed, or WorkerLost when the process ended."""
        message = {
            "job_id": work.job_id,
            "attempt": work.attempt,
            "kind": work.kind,
            "input": work.input,
            "input_files": {name: str(path) for name, path in work.input_files.items()},
            "folder": str(work.folder),
            "run_seconds": work.run_seconds,
            "env": dict(work.env),
            "gpus": [asdict(gpu) for gpu in work.gpus or ()],
            "check": work.check,
        }
        answer = await self._ask({"do": "run", "work": message}, on_progress)
        try:
            return _outcome_of(answer["outcome"], work.folder)
        except (KeyError, TypeError, ValueError, AttributeError, OSError):
            raise WorkerLost("The worker answered nonsense.") from None

    def memory_bytes(self) -> int:
        """The memory of the process now."""
        return process_tree.proportional_bytes(self.pid)

    async def kill(self) -> None:
        """End the worker and everything it started; returns when they are gone."""
        orphaned = runs_programs(self._kind) and not self.alive
        if self.alive:
            gone = await asyncio.to_thread(process_tree.kill_tree, self.pid)
            if not gone:
                log.error("processes below worker %d are still alive", self.pid)
        await self._process.wait()
        if orphaned:
            # The worker died first and its orphans left the tree; they still carry its marker.
            await asyncio.to_thread(process_tree.kill_marked, self._marker)
        if self._kind == _CONTAINER:
            await asyncio.to_thread(self._remove_containers)
        await asyncio.wait({self._listening}, timeout=1.0)
        self._listening.cancel()
        if self._process.stdin:
            self._process.stdin.close()

    def _remove_containers(self) -> None:
        """Remove the containers of this worker: docker's are not below it, and podman's leave their file systems."""
        found = runtime.remembered(self._scratch)
        try:
            if found is not None:
                found.remove_labelled(runtime.WORKER, self._marker)
        except runtime.RuntimeFailed as error:
            log.error("containers of a worker are left: %s", error)

    async def ending(self) -> str:
        """How the process ended, for a person; waits a moment for it to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._process.wait()
        if self._complaints:
            log.warning("the %s worker said: %s", self._kind, self._complaints.decode("utf-8", "replace"))
        code = self._process.returncode
        if code is None:
            return "stopped answering"
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def _ask(self, message: dict[str, Any], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        """Send a message and take its answer, passing on what is reported before it."""
        assert self._process.stdin and self._process.stdout
        try:
            frame = framing.encode_frame(message, limit=framing.TO_WORKER_BYTES)
        except (framing.FrameError, ValueError, TypeError, RecursionError):
            limit = framing.TO_WORKER_BYTES
            raise WorkFailed("requester", "invalid_input", f"The input is not JSON of up to {limit} bytes.") from None
        try:
            self._process.stdin.write(frame)
            await self._process.stdin.drain()
            while True:
                answer = await framing.receive_frame(self._process.stdout, limit=framing.FROM_WORKER_BYTES)
                if answer.get("is") != "progress":
                    break
                on_progress(Progress(answer["fraction"], answer["lines"], answer["text"]))
        except (framing.FrameError, ConnectionError, KeyError) as error:
            raise WorkerLost(str(error)) from None
        if answer.get("is") == "failed":
            raise WorkFailed(**answer["failure"])
        return answer

    async def _keep_complaints(self) -> None:
        """Read standard error to its end, so that the worker never waits for it, and keep its last words."""
        assert self._process.stderr
        while data := await self._process.stderr.read(65_536):
            self._complaints = (self._complaints + data)[-_STDERR_BYTES:]


def _environment(scratch: Path, threads: int) -> dict[str, str]:
    """What a worker gets: where the packages are, a home that is no home, and its share of the processor."""
    package_root = str(Path(aitbc_cli.__file__).parent.parent)
    search = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    threads_each = str(threads)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(search)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": threads_each,
        "OPENBLAS_NUM_THREADS": threads_each,
        "RAYON_NUM_THREADS": threads_each,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def _outcome_of(answer: Mapping[str, Any], folder: Path) -> Outcome:
    """The outcome that a worker reported, with every file checked to be a plain one inside the folder of the work."""
    files = {str(name): Path(path) for name, path in answer["output_files"].items()}
    for path in files.values():
        if path.parent != folder or not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("An output file lies outside the folder of its work.")
    error = answer["error"]
    return Outcome(
        output=answer["output"],
        output_files=files,
        usage={str(name): int(count) for name, count in answer["usage"].items()},
        error=Failure(**error) if error else None,
    )


def owner_of(scratch: Path, worker: str) -> Owner:
    """Whose the containers are that this process starts beside its workers."""
    return Owner(_miner_of(scratch), _DAEMON, worker)


def _miner_of(scratch: Path) -> str:
    """What the containers of a miner are found again by: its folder, which it has alone."""
    return hashlib.sha256(os.fsencode(scratch.resolve())).hexdigest()[:16]


def _ignore(_progress: Progress) -> None:
    """Nobody listens to the progress of a start."""

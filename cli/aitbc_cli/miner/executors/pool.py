"""The executor pool: runs work in worker processes, so that no work can harm the daemon or outlive it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import cpu_count
from pathlib import Path
from typing import Any

from aitbc.kernel.primitives.tasks import finish
from aitbc_cli.miner.cluster.cluster import Cluster
from aitbc_cli.miner.executors.shared_worker import SharedWorker
from aitbc_cli.miner.executors.work import (
    GPU_FAILED,
    GPU_UNUSABLE,
    NO_GPUS,
    PROGRAMS,
    SHARED,
    Failure,
    Gpu,
    KindStatus,
    Outcome,
    Progress,
    Work,
    WorkFailed,
    is_of_package,
)
from aitbc_cli.miner.executors.worker_process import WorkerLost, WorkerProcess
from aitbc_cli.miner.gpus import Gpus
from aitbc_cli.miner.nvml import Nvml
from aitbc_cli.miner.serving.declared import SERVING_OPTIONS
from aitbc_cli.miner.serving.engine import Engine
from aitbc_cli.miner.serving.host import ModelHost
from aitbc_cli.miner.xid import Xid

__all__ = ["ExecutorPool", "Failure", "KindStatus", "Outcome", "Progress", "Work"]

KINDS = frozenset({"embed", "rerank", "ocr", "chat", *PROGRAMS})
CHAT = "chat"
_OF_THE_SERVER = frozenset({"base_url", "api_key_file", "models"})
"""Options of chat that are about one chat server."""
_DOUBTFUL = frozenset({"upstream_unavailable", "timed_out", "crashed"})
"""Failures of a chat after which its engine is asked whether it is well."""

_WARM_UP_SECONDS = 60.0
_TRY_GPU_SECONDS = 3700.0
"""A bound beyond the limit that the test program has itself."""
_FREE_SECONDS = 20.0
"""How long work waits for the GPU that it leased: the program before it may still be ending."""
# These watch the time themselves and keep what was written until then; they are only ended if they fail to.
_OWN_CLOCK = frozenset({"chat", *PROGRAMS})
_OWN_CLOCK_GRACE_SECONDS = 5.0
_FAULT_OF_TIME_OUT = {**dict.fromkeys(PROGRAMS, "requester"), "chat": "miner"}
# After these a worker is not trusted with another piece of work.
_SPOILED = frozenset({"crashed", "out_of_memory", "disk_full"})


@dataclass(frozen=True)
class _Lane:
    """Workers that can stand in for each other: those of a kind, or of one engine of this miner's own."""

    kind: str
    options: Mapping[str, Any] = field(compare=False)
    model: str | None = None


class ExecutorPool:
    """Runs up to `slots` pieces of work at once, each in a worker process of its kind.

    `kinds` maps each kind of work to its options. A worker is started for the first work of its kind in a slot, and
    is used again; it is replaced after a crash, a cancellation or a time-out. `scratch` is an existing folder.
    """

    def __init__(
        self,
        *,
        slots: int,
        kinds: Mapping[str, Mapping[str, Any]],
        scratch: Path,
        nvml: Nvml | None = None,
        models: ModelHost | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        unknown = sorted(kind for kind in set(kinds) - KINDS if not is_of_package(kind))
        if unknown:
            raise ValueError(f"unknown kind of work: {unknown[0]!r}; known are {', '.join(sorted(KINDS))}")
        if slots < 1:
            raise ValueError("a miner needs at least one slot")
        self._kinds = {kind: dict(options) for kind, options in kinds.items()}
        self._scratch = scratch
        self._threads = max(1, (cpu_count() or 1) // slots)
        self.gpus = Gpus(slots, nvml)
        """The GPUs that programs get; the daemon says which there are."""
        self.cluster = cluster
        """What does the work of some kinds instead of this machine."""
        local = PROGRAMS if cluster is None else PROGRAMS - cluster.kinds
        self.gpu_kinds = tuple(kind for kind in kinds if kind in local and kinds[kind].get("gpus") != NO_GPUS)
        """The kinds whose programs get GPUs."""
        self._tried_in_containers: set[str] = set()
        self.on_gpus_changed: Callable[[], Awaitable[None]] | None = None
        """Called when a GPU must rest, before the outcome of its last program is told."""
        self._slots = asyncio.Semaphore(slots)
        self._idle: dict[_Lane, list[WorkerProcess]] = defaultdict(list)
        self._models = models
        if models is not None:
            models.on_gone = self._forget_model
        self._workers: set[WorkerProcess] = set()
        self._leaving: set[WorkerProcess] = set()
        self._discarding: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._starting = asyncio.Lock()

    @property
    def gives_gpus(self) -> bool:
        """Whether programs get GPUs."""
        return bool(self.gpu_kinds)

    async def check(self, kind: str) -> KindStatus:
        """Try a kind with a first small piece of work; a kind that failed may be checked again later."""
        if kind == CHAT and self._models is not None:
            return _with_served(await self._check_server(), self._models.names, self._models.facts)
        if self.cluster is not None and kind in self.cluster.kinds:
            return await self.cluster.check(kind)
        return await self._check(self._lane(kind))

    async def _check_server(self) -> KindStatus | None:
        """The status of the chat server that is not this miner's own; none where there is none."""
        return await self._check(self._lane(CHAT)) if "base_url" in self._kinds[CHAT] else None

    async def _check(self, lane: _Lane) -> KindStatus:
        started = time.monotonic()
        kind = lane.kind
        try:
            worker = await self._take(lane)
        except WorkFailed as error:
            return _unusable(error.failure)
        try:
            async with asyncio.timeout(_WARM_UP_SECONDS):
                detail = await worker.warm_up()
            if kind in self.gpu_kinds:
                await self._try_gpus(worker, kind)
            memory = worker.memory_bytes()
        except WorkFailed as error:
            await self._discard(worker)
            return _unusable(error.failure)
        except (WorkerLost, TimeoutError):
            ending = await worker.ending()
            await self._discard(worker)
            message = f"The {kind} worker {ending} while it was warmed up."
            return _unusable(Failure("miner", "executor_unavailable", message))
        except BaseException:
            await self._discard(worker)
            raise
        if kind not in SHARED:
            self._idle[lane].append(worker)
        milliseconds = round((time.monotonic() - started) * 1000)
        return KindStatus(
            usable=True,
            reason=None,
            message=f"ready after {milliseconds} ms",
            warm_up_ms=milliseconds,
            memory_bytes=memory,
            detail=detail,
        )

    async def run(self, work: Work, *, on_progress: Callable[[Progress], None]) -> Outcome:
        """Do the work when a slot is free; every failure is an outcome.

        Cancelling ends the work with everything it started, and is raised again when that is gone.
        """
        if work.kind not in self._kinds:
            message = f"This miner is not configured for {work.kind!r}."
            return Outcome(error=Failure("miner", "executor_unavailable", message))
        async with self._slots:
            if self.cluster is not None and work.kind in self.cluster.kinds:
                return await self.cluster.run(work, on_progress)
            if work.gpus and work.kind not in self.gpu_kinds:
                return _no_gpu(f"Work of kind {work.kind} gets no GPU of this miner.")
            if (model := self._served(work)) is not None:
                return await self._run_served(model, work, on_progress)
            if work.kind == CHAT and "base_url" not in self._kinds[CHAT] and self._models is not None:
                return Outcome(error=Failure("platform", "model_unavailable", "This miner has no such model now."))
            if work.kind not in self.gpu_kinds:
                return await self._run(work, on_progress)
            gpus = self.gpus.choose() if work.gpus is None else work.gpus
            if work.gpus is None and not gpus and self.gpus.sound:
                return _no_gpu("Programs cannot use a GPU of this miner now.")
            if not self.gpus.can_be_had(gpus):
                return _no_gpu("Programs cannot use the GPU of this lease now.")
            if work.gpus and not await self.gpus.until_free(gpus, _FREE_SECONDS):
                return _no_gpu("Another program of this miner still has the GPU of this lease.")
            before = self.gpus.condition.last_xid
            with self.gpus.held(gpus):
                try:
                    outcome = await self._run(replace(work, gpus=gpus), on_progress)
                finally:
                    is_free = await self.gpus.drained(gpus)
            outcome = await self._attributed(outcome, gpus, before)
            is_doubtful = outcome.error is not None and outcome.error.reason == GPU_FAILED
            if is_doubtful:
                self.gpus.doubt(gpus)
            if self.on_gpus_changed is not None and (is_doubtful or not is_free):
                await self.on_gpus_changed()
            return outcome

    async def _attributed(self, outcome: Outcome, gpus: Sequence[Gpu], before: Xid | None) -> Outcome:
        """The outcome with the fault where it belongs: what the GPU did is the miner's, what a program did is not."""
        error = outcome.error
        if error is None or not gpus:
            return outcome
        hardware, program = await asyncio.to_thread(self.gpus.condition.troubles, gpus, before)
        if hardware is not None and error.fault != "miner":
            message = f"The GPU failed under the program: {hardware}. {error.message}"
            return replace(outcome, error=Failure("miner", GPU_FAILED, message))
        if error.reason == GPU_FAILED and hardware is None and program is not None and not gpus[0].is_shared:
            message = f"The driver reported {program}. {error.message}"
            return replace(outcome, error=Failure("requester", "gpu_misused", message))
        return outcome

    def _served(self, work: Work) -> str | None:
        """The model of this miner's own that the work is for; none where another server has it, or none is needed."""
        if work.kind != CHAT or self._models is None:
            return None
        wanted = work.input.get("model") if isinstance(work.input, Mapping) else None
        if wanted is None and "base_url" not in self._kinds[CHAT]:
            wanted = next(iter(self._models.names), None)
        return self._models.served(wanted)

    async def _run_served(self, model: str, work: Work, on_progress: Callable[[Progress], None]) -> Outcome:
        """Do the work with an engine of this miner's own, which may have to load first: that is time of the work."""
        assert self._models is not None
        until = time.monotonic() + work.run_seconds
        try:
            async with self._models.use(model, lambda line: on_progress(Progress(None, [line]))) as engine:
                left = replace(work, run_seconds=max(0.1, until - time.monotonic()))
                outcome = await self._run(left, on_progress, self._lane_of(model, engine))
                if outcome.error is not None and outcome.error.reason in _DOUBTFUL:
                    await self._models.doubt(model, engine)
                return outcome
        except WorkFailed as error:
            return Outcome(error=error.failure)

    def _lane(self, kind: str) -> _Lane:
        return _Lane(kind, {name: value for name, value in self._kinds[kind].items() if name not in SERVING_OPTIONS})

    def _lane_of(self, model: str, engine: Engine) -> _Lane:
        """The lane of a served model: a chat worker as for any server, with this engine as the server."""
        lane = self._lane(CHAT)
        limits = {name: value for name, value in lane.options.items() if name not in _OF_THE_SERVER}
        named = [model] if self._models is None else self._models.names_of(model)
        models = [f"{name}={engine.upstream}" for name in named]
        return _Lane(CHAT, limits | {"base_url": engine.url, "models": models}, model)

    def _forget_model(self, model: str) -> None:
        """The engine has gone: its worker would ask a port that may be another's by now."""
        for worker in self._idle.pop(_Lane(CHAT, {}, model), []):
            self._leaving.add(worker)
            self._let_go(worker)

    def _let_go(self, worker: WorkerProcess) -> None:
        """End a worker whose engine has gone, once the last work that asked it has its answer."""
        if worker in self._leaving and not worker.is_asked:
            self._leaving.discard(worker)
            self._discarding.add(task := asyncio.ensure_future(self._discard(worker)))
            task.add_done_callback(self._discarding.discard)

    async def _run(self, work: Work, on_progress: Callable[[Progress], None], lane: _Lane | None = None) -> Outcome:
        lane = lane or self._lane(work.kind)
        try:
            worker = await self._take(lane)
        except WorkFailed as error:
            return Outcome(error=error.failure)
        if work.kind in SHARED:
            try:
                return await self._supervise(worker, work, on_progress)
            finally:
                self._let_go(worker)
        outcome = None
        try:
            outcome = await self._supervise(worker, work, on_progress)
        finally:
            spoiled = outcome is None or (outcome.error and outcome.error.reason in _SPOILED)
            if spoiled or not worker.alive or self._stopped:
                await self._discard(worker)
            else:
                self._idle[lane].append(worker)
        return outcome

    async def _try_gpus(self, worker: WorkerProcess, kind: str) -> None:
        """Try each GPU with a program of our own. Raises WorkFailed where none can be used."""
        if kind == "container":
            await self._try_in_containers(worker)
            return
        failed: WorkFailed | None = None
        for uuid in self.gpus.to_try:
            try:
                async with asyncio.timeout(_TRY_GPU_SECONDS):
                    await worker.try_gpu(self.gpus.share(uuid))
                self.gpus.note_tried(uuid, None)
            except WorkFailed as error:
                failed = error
                self.gpus.note_tried(uuid, error.failure.message)
        if failed is not None and not self.gpus.can_be_used:
            raise failed

    async def _try_in_containers(self, worker: WorkerProcess) -> None:
        """Have a container get each GPU once. Raises WorkFailed where one does not: a lease may name any of them."""
        for uuid in set(self.gpus.sound) - self._tried_in_containers:
            async with asyncio.timeout(_WARM_UP_SECONDS):
                await worker.try_gpu(self.gpus.whole(uuid))
            self._tried_in_containers.add(uuid)
        if "command" not in self.gpu_kinds:
            for uuid in self.gpus.to_try:
                self.gpus.note_tried(uuid, None)

    async def stop(self) -> None:
        """End all workers; work that still runs fails."""
        self._stopped = True
        await asyncio.gather(*(self._discard(worker) for worker in list(self._workers)), *self._discarding)
        if self._models is not None:
            await self._models.stop()

    def workers(self) -> dict[str, list[int]]:
        """The process ids of the idle workers of each kind."""
        return {kind: [worker.pid for worker in self._idle[self._lane(kind)]] for kind in self._kinds}

    async def _supervise(self, worker: WorkerProcess, work: Work, on_progress: Callable[[Progress], None]) -> Outcome:
        """Have the worker do the work within its time."""
        grace = _OWN_CLOCK_GRACE_SECONDS if work.kind in _OWN_CLOCK or is_of_package(work.kind) else 0.0
        try:
            async with asyncio.timeout(work.run_seconds + grace):
                return await worker.run(work, on_progress)
        except WorkFailed as error:
            return Outcome(error=error.failure)
        except TimeoutError:
            if work.kind not in SHARED:
                await self._discard(worker)
            fault = _FAULT_OF_TIME_OUT.get(work.kind, "unknown")
            message = f"The work was not done within its {work.run_seconds:g} seconds."
            return Outcome(error=Failure(fault, "timed_out", message))
        except WorkerLost:
            if self._stopped:
                return Outcome(error=Failure("miner", "canceled", "The miner was stopped."))
            message = f"The {work.kind} worker {await worker.ending()} during the work."
            return Outcome(error=Failure("unknown", "crashed", message))

    async def _take(self, lane: _Lane) -> WorkerProcess:
        """An idle worker that still lives, or a new one; of a shared kind the one that there is."""
        if lane.kind in SHARED:
            async with self._starting:  # of all that come at once, the first starts it
                return await self._take_shared(lane)
        idle = self._idle[lane]
        while idle:
            worker = idle.pop()
            if worker.alive:
                return worker
            await self._discard(worker)
        return await self._start(lane, WorkerProcess)

    async def _take_shared(self, lane: _Lane) -> WorkerProcess:
        for worker in list(self._idle[lane]):
            if worker.alive:
                return worker
            await self._discard(worker)
        worker = await self._start(lane, SharedWorker)
        self._idle[lane].append(worker)
        return worker

    async def _start(self, lane: _Lane, form: type[WorkerProcess]) -> WorkerProcess:
        if self._stopped:
            raise WorkFailed("miner", "canceled", "The miner was stopped.")
        worker = await form.start(lane.kind, lane.options, scratch=self._scratch, threads=self._threads)
        self._workers.add(worker)
        return worker

    async def _discard(self, worker: WorkerProcess) -> None:
        """End a worker; even a second cancellation does not leave it half ended."""
        self._workers.discard(worker)
        for idle in self._idle.values():
            if worker in idle:
                idle.remove(worker)
        await finish(worker.kill())


def _with_served(
    server: KindStatus | None, served: Sequence[str], facts: Mapping[str, Mapping[str, Any]]
) -> KindStatus:
    """The status of chat with the models of this miner's own before those of another server."""
    if server is not None and not served:
        return server
    if not served:
        return _unusable(Failure("platform", "model_unavailable", "The engines of all served models failed."))
    listed = server.detail if server is not None and server.usable else {}
    models = [*served, *(model for model in listed.get("models", ()) if model not in served)]
    return KindStatus(
        usable=True,
        reason=None,
        message="served on demand" if server is None else f"served on demand; {server.message}",
        warm_up_ms=server.warm_up_ms if server is not None else None,
        memory_bytes=server.memory_bytes if server is not None else None,
        detail={**listed, "models": models, "facts": {**listed.get("facts", {}), **facts}},
    )


def _no_gpu(message: str) -> Outcome:
    return Outcome(error=Failure("miner", GPU_UNUSABLE, message))


def _unusable(failure: Failure) -> KindStatus:
    return KindStatus(
        usable=False, reason=failure.reason, message=failure.message, warm_up_ms=None, memory_bytes=None, detail={}
    )

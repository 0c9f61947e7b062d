"""A cluster behind a miner: each job of kind `command` is one job of the cluster, found again by its name.

The miner submits, asks once a second, and cancels; it keeps no process beside a job. So a miner that was killed finds
its jobs where they are, and those whose lease is over are canceled. Its home lies where all nodes see it.
"""

import asyncio
import hashlib
import os
import shlex
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aitbc.kernel.primitives.tasks import finish
from aitbc_cli.miner.cluster.containers import ClusterContainers
from aitbc_cli.miner.cluster.planned import Planned, Size
from aitbc_cli.miner.executors.command import read_command_input, read_programs
from aitbc_cli.miner.executors.fields import FieldError, read_integer, read_object
from aitbc_cli.miner.executors.program import Captured
from aitbc_cli.miner.executors.work import Failure, KindStatus, Outcome, Progress, Work, WorkFailed, with_last_words

ASK_SECONDS = 1.0
"""How often a job is asked after: well below the 300 s after which Slurm forgets one that has ended."""
CALL_SECONDS = 30.0
CANARY_SECONDS = 50.0
END_SECONDS = 60.0
"""How long a canceled job is waited for: a cluster may give a program 30 s between its two signals."""
MIB = 1024 * 1024
COMMAND, CONTAINER = "command", "container"
CANARY = "canary"
"""The folder of the job that tries containers."""
OPTIONS = frozenset({"programs", "memory_bytes", "output_bytes", "cpus", "gpus", "threads"})
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
LOST = frozenset({"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED"})
SCRIPT = """#!/bin/sh
cd work || exit 1
{command}
code=$?
printf %s "$code" >../exit.new && mv ../exit.new ../exit
exit "$code"
"""


class ClusterFailed(Exception):
    """The cluster refused something, or does not answer; the message is what it said."""


@dataclass(frozen=True)
class State:
    """How a job of the cluster stands."""

    name: str
    """In the words of Slurm: `RUNNING`, `COMPLETED`, …; `UNKNOWN` for a job that the cluster has forgotten."""
    reason: str = ""


class Cluster(ABC):
    """A cluster, as a pool has it; what kinds of clusters do in their own ways is left to them."""

    NAME: ClassVar[str]
    MORE: ClassVar[frozenset[str]] = frozenset()
    """Options beside those that all have."""

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        """`options` are those of `command`, empty where none is done; `folder` is the miner's home."""
        read_object(options, allowed=OPTIONS | self.MORE, what=f"configuration of command under {self.NAME}")
        self._programs, self._missing = read_programs(options["programs"]) if options else ({}, {})
        self.size = Size(
            read_integer(options.get("cpus", 1), "cpus", least=1, most=4096),
            read_integer(options.get("memory_bytes", 1024 * MIB), "memory_bytes", least=MIB, most=2**42),
            read_integer(options.get("output_bytes", 256 * 1024), "output_bytes", least=16, most=64 * MIB),
        )
        self.containers: ClusterContainers | None = None
        """Set where it runs containers too."""
        self._folder = folder / self.NAME.lower()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.prefix = f"aitbc-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]}-"
        self._tried: dict[str, dict[str, Any]] = {}
        """What was found out of the kinds that were tried."""
        self.waiting: set[str] = set()
        """The attempts whose jobs have not started."""

    @abstractmethod
    async def ping(self) -> None:
        """Ask whether the cluster is there. Raises `ClusterFailed`."""

    @abstractmethod
    async def try_once(self) -> None:
        """Have a small job of the miner's own run. Raises `ClusterFailed`."""

    @abstractmethod
    async def free(self) -> int:
        """How many more jobs the cluster would start at once: none while one of this miner's waits for its turn."""

    async def try_containers(self) -> None:
        """Have the canary of the containers run. Raises `ClusterFailed`."""
        raise ClusterFailed("it runs no containers")

    @abstractmethod
    async def submit(self, attempt: str, place: Path, seconds: float, size: Size) -> str:
        """Submit the script of an attempt; answers the cluster's id of the job. Raises `ClusterFailed`."""

    @abstractmethod
    async def state(self, job: str) -> State:
        """How a job stands; what the cluster has forgotten, or does not answer for now, is told apart."""

    @abstractmethod
    async def jobs(self) -> dict[str, str]:
        """The jobs of this miner that are not over, by attempt. Raises `ClusterFailed`."""

    @abstractmethod
    async def end(self, attempt: str) -> None:
        """Have the job of an attempt ended; it may take a while. Raises `ClusterFailed`."""

    def script(self, place: Path, command: str) -> str:
        """What the job of a command runs; `place` is the folder of its attempt."""
        return SCRIPT.format(command=command)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of work that it does instead of the miner's own machine."""
        return frozenset({COMMAND} if self.containers is None else {COMMAND, CONTAINER})

    async def check(self, kind: str) -> KindStatus:
        """Whether jobs of a kind can be run: the first time a small one of the miner's own is."""
        started = time.monotonic()
        try:
            if kind == COMMAND and not self._programs:
                raise ClusterFailed(f"no allowed program is here: {self._missing}")
            await self.ping()
            if kind not in self._tried:
                self._tried[kind] = await self._try(kind)
        except (ClusterFailed, WorkFailed, OSError) as error:
            message = f"{self.NAME} runs no job of this miner: {error}"
            return KindStatus(False, "executor_unavailable", message, None, None, {})
        milliseconds = round((time.monotonic() - started) * 1000)
        return KindStatus(True, None, f"ready after {milliseconds} ms", milliseconds, None, self._tried[kind])

    async def _try(self, kind: str) -> dict[str, Any]:
        """What a first job of the miner's own finds. Raises `ClusterFailed`, `WorkFailed`."""
        if kind == COMMAND:
            await self.try_once()
            return {"programs": sorted(self._programs), "missing": self._missing}
        assert self.containers is not None
        place = self._folder / CANARY
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "script").write_text(self.containers.canary(place))
        await self.try_containers()
        return self.containers.note_canary(place)

    async def run(self, work: Work, on_progress: Callable[[Progress], None]) -> Outcome:
        """Do the work as a job of the cluster, or wait for the one that does it already. Cancelling cancels the job."""
        attempt = work.folder.name
        place = self._folder / attempt
        try:
            job = await self._job(work, attempt, place)
        except WorkFailed as error:
            return Outcome(error=error.failure)
        except FieldError as error:
            return Outcome(error=Failure("requester", "invalid_input", str(error)))
        except (ClusterFailed, OSError) as error:
            return Outcome(error=Failure("miner", "executor_unavailable", f"{self.NAME} takes no job: {error}"))
        try:
            outcome = await self._until_over(job, work, place, on_progress)
            if work.kind == CONTAINER and self.containers is not None:
                return await asyncio.to_thread(self.containers.judge, outcome, work, place)
            return outcome
        except BaseException:
            await finish(self._cancel(attempt))
            raise
        finally:
            self.waiting.discard(attempt)

    async def _job(self, work: Work, attempt: str, place: Path) -> str:
        """The cluster's id of the job of an attempt: of the one there is, else of a new one."""
        if (place / "exit").exists():
            return ""
        with suppress(OSError):
            return (place / "job").read_text()
        if known := (await self.jobs()).get(attempt):
            return known
        shutil.rmtree(place, ignore_errors=True)
        (place / "work").mkdir(parents=True)
        planned = self._plan(work, attempt, place)
        (place / "stdin").write_bytes(planned.stdin)
        (place / "script").write_text(planned.script)
        job = await self.submit(attempt, place, work.run_seconds, planned.size)
        (place / "job").write_text(job)
        return job

    def _plan(self, work: Work, attempt: str, place: Path) -> Planned:
        """What its job runs. Raises `WorkFailed`, `FieldError`."""
        if work.kind == CONTAINER and self.containers is not None:
            return self.containers.plan(work, attempt, place)
        name, arguments, stdin = read_command_input(work.input, self._programs)
        return Planned(self.script(place, shlex.join([*self._programs[name], *arguments])), stdin, self.size)

    async def _until_over(self, job: str, work: Work, place: Path, on_progress: Callable[[Progress], None]) -> Outcome:
        attempt, seconds = place.name, work.run_seconds
        kept = self.size if work.kind == COMMAND or self.containers is None else self.containers.size
        streams = {
            name: Captured(kept.output_bytes, lambda line: on_progress(Progress(None, [line])))
            for name in ("stdout", "stderr")
        }
        read = dict.fromkeys(streams, 0)
        began, failure = time.monotonic(), None
        state = State("PENDING")
        while True:
            state = await self.state(job)
            (self.waiting.add if state.name in WAITING else self.waiting.discard)(attempt)
            for name, stream in streams.items():
                read[name] = await asyncio.to_thread(_feed, place / name, read[name], stream)
            if state.name not in WAITING | RUNNING or (state.name == "COMPLETING" and (place / "exit").exists()):
                break
            if time.monotonic() - began > seconds:
                failure = _too_late(state, seconds)
                await self._cancel(attempt)
                break
            await asyncio.sleep(ASK_SECONDS)
        for name, stream in streams.items():
            await asyncio.to_thread(_feed, place / name, read[name], stream)
            stream.finish()
        return outcome_of(
            self.NAME, state, _exit_code(place), streams, round((time.monotonic() - began) * 1000), failure
        )

    async def _cancel(self, attempt: str) -> None:
        """Cancel the job of an attempt, and wait until it is gone."""
        deadline = time.monotonic() + END_SECONDS
        with suppress(ClusterFailed):
            await self.end(attempt)
            while attempt in await self.jobs() and time.monotonic() < deadline:  # noqa: ASYNC110 - a cluster tells nobody
                await asyncio.sleep(ASK_SECONDS / 4)

    async def keep_only(self, attempts: Collection[str]) -> None:
        """After a start: cancel the jobs that an earlier run left and that nobody waits for any more."""
        with suppress(ClusterFailed):
            for attempt in set(await self.jobs()) - set(attempts):
                await self._cancel(attempt)
        for place in self._folder.iterdir():
            if place.name not in attempts:
                shutil.rmtree(place, ignore_errors=True)

    def forget(self, attempt: str) -> None:
        """The server knows how the attempt ended: its folder goes."""
        shutil.rmtree(self._folder / attempt, ignore_errors=True)


def outcome_of(
    cluster: str,
    state: State,
    exit_code: int | None,
    streams: Mapping[str, Captured],
    milliseconds: int,
    failure: Failure | None,
) -> Outcome:
    """What became of a job: the program's own exit code counts where it wrote one, else what the cluster says."""
    output: dict[str, Any] = {name: stream.text() for name, stream in streams.items()}
    output |= {"exit_code": exit_code, "truncated": any(stream.truncated for stream in streams.values())}
    if failure is None and exit_code != 0:
        failure = _failure_of(cluster, state, exit_code)
    if failure is not None:
        failure = with_last_words(failure, output["stderr"])
    return Outcome(output=output, usage={"milliseconds": milliseconds}, error=failure)


def _failure_of(cluster: str, state: State, exit_code: int | None) -> Failure:
    if exit_code is not None:
        return Failure("requester", "exit_nonzero", f"The program ended with exit code {exit_code}.")
    said = f"{cluster} says {state.name}" + (f" ({state.reason})" if state.reason not in ("", "None") else "")
    if state.name in LOST:
        return Failure("miner", "node_lost", f"{said}: the node was lost or taken away.")
    if state.name in ("TIMEOUT", "DEADLINE"):
        return Failure("requester", "timed_out", f"{said}.")
    if state.name == "OUT_OF_MEMORY":
        return Failure("requester", "out_of_memory", f"{said}.")
    if state.name == "CANCELLED":
        return Failure("miner", "canceled", f"{said}: the cluster ended it, not its owner.")
    return Failure("miner", "executor_unavailable", f"{said}, and its program told no exit code.")


def _too_late(state: State, seconds: float) -> Failure:
    if state.name in WAITING:
        return Failure("miner", "not_started", f"The cluster did not start it within {seconds:g} seconds.")
    return Failure("requester", "timed_out", f"The program ran longer than its {seconds:g} seconds.")


def _exit_code(place: Path) -> int | None:
    try:
        return int((place / "exit").read_text())
    except (OSError, ValueError):
        return None


def _feed(file: Path, start: int, stream: Captured) -> int:
    """Read what has come to a file; answers how far that is."""
    with suppress(OSError), file.open("rb") as opened:
        opened.seek(start)
        while data := opened.read(65_536):
            stream.feed(data)
            start += len(data)
    return start

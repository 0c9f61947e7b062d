"""Slurm behind a miner: each job of kind `command` is one Slurm job, found again by its name.

The miner submits, asks once a second, and cancels; it keeps no process beside a job. So a miner that was killed finds
its jobs where they are, and those whose lease is over are canceled. Its home lies where all nodes see it.
"""

import asyncio
import hashlib
import math
import os
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc.kernel.primitives.tasks import end_process, finish
from aitbc_cli.miner.executors.command import read_command_input, read_programs
from aitbc_cli.miner.executors.fields import FieldError, read_integer, read_object, read_text
from aitbc_cli.miner.executors.program import Captured
from aitbc_cli.miner.executors.work import Failure, KindStatus, Outcome, Progress, Work, WorkFailed, with_last_words

ASK_SECONDS = 1.0
"""How often a job is asked after: well below the 300 s after which Slurm forgets one that has ended."""
CALL_SECONDS = 30.0
CANARY_SECONDS = 50.0
END_SECONDS = 60.0
"""How long a canceled job is waited for: Slurm itself gives a program 30 s between its two signals."""
_MIB = 1024 * 1024
_OPTIONS = frozenset({"programs", "memory_bytes", "output_bytes", "cpus", "partition", "gpus", "threads"})
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
LOST = frozenset({"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED"})
_SCRIPT = """#!/bin/sh
cd work || exit 1
{command}
code=$?
printf %s "$code" >../exit.new && mv ../exit.new ../exit
exit "$code"
"""


class SlurmFailed(Exception):
    """A command of Slurm's failed; the message is what it said."""


@dataclass(frozen=True)
class State:
    """How a Slurm job stands."""

    name: str
    """As Slurm says it: `RUNNING`, `COMPLETED`, …; `UNKNOWN` for a job that Slurm has forgotten."""
    reason: str = ""


class Slurm:
    """The cluster, as a pool has it. `folder` is the miner's home."""

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        read_object(options, allowed=_OPTIONS, what="configuration of command under Slurm")
        self._programs, self._missing = read_programs(options.get("programs"))
        self._memory_bytes = read_integer(
            options.get("memory_bytes", 1024 * _MIB), "memory_bytes", least=_MIB, most=2**42
        )
        self._output_bytes = read_integer(
            options.get("output_bytes", 256 * 1024), "output_bytes", least=16, most=64 * _MIB
        )
        self._cpus = read_integer(options.get("cpus", 1), "cpus", least=1, most=4096)
        partition = options.get("partition")
        self._partition = None if partition is None else read_text(partition, "partition", shortest=1, longest=100)
        self._folder = folder / "slurm"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._prefix = f"aitbc-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]}-"
        self._is_tried = False
        self._waiting: set[str] = set()
        """The attempts whose jobs have not started."""

    async def check(self) -> KindStatus:
        """Whether jobs can be run: the first time a small one of the miner's own is."""
        started = time.monotonic()
        try:
            if not self._programs:
                raise SlurmFailed(f"no allowed program is here: {self._missing}")
            await _call("sinfo", "-h", "-o", "%P")
            if not self._is_tried:
                await self._try_once()
                self._is_tried = True
        except SlurmFailed as error:
            message = f"Slurm runs no job of this miner: {error}"
            return KindStatus(False, "executor_unavailable", message, None, None, {})
        milliseconds = round((time.monotonic() - started) * 1000)
        detail = {"programs": sorted(self._programs), "missing": self._missing}
        return KindStatus(True, None, f"ready after {milliseconds} ms", milliseconds, None, detail)

    async def _try_once(self) -> None:
        words = [*self._resources(60.0), "--job-name", f"{self._prefix}canary", "--output", "/dev/null", "--wait"]
        try:
            await _call("sbatch", *words, "--wrap", "exit 0", seconds=CANARY_SECONDS)
        except SlurmFailed:
            await _call("scancel", "--name", f"{self._prefix}canary")
            raise

    async def free(self) -> int:
        """How many more jobs the cluster would start at once: none while one of this miner's waits for its turn."""
        if self._waiting:
            return 0
        try:
            told = await _call("sinfo", "-h", "-o", "%C", *self._where())
        except SlurmFailed:
            return 0
        return sum(int(line.split("/")[1]) for line in told.split()) // self._cpus

    async def run(self, work: Work, on_progress: Callable[[Progress], None]) -> Outcome:
        """Do the work as a Slurm job, or wait for the one that does it already. Cancelling cancels the job."""
        attempt = work.folder.name
        place = self._folder / attempt
        try:
            name, arguments, stdin = read_command_input(work.input, self._programs)
            job = await self._job(attempt, place, [*self._programs[name], *arguments], stdin, work.run_seconds)
        except WorkFailed as error:
            return Outcome(error=error.failure)
        except FieldError as error:
            return Outcome(error=Failure("requester", "invalid_input", str(error)))
        except (SlurmFailed, OSError) as error:
            return Outcome(error=Failure("miner", "executor_unavailable", f"Slurm takes no job: {error}"))
        try:
            return await self._until_over(job, attempt, place, work.run_seconds, on_progress)
        except BaseException:
            await finish(self._cancel(attempt))
            raise
        finally:
            self._waiting.discard(attempt)

    async def _job(self, attempt: str, place: Path, command: Sequence[str], stdin: bytes, seconds: float) -> str:
        """The number of the Slurm job of an attempt: the one there is, else a new one."""
        if (place / "exit").exists():
            return ""
        with suppress(OSError):
            return (place / "job").read_text()
        if known := (await self._jobs()).get(attempt):
            return known
        shutil.rmtree(place, ignore_errors=True)
        (place / "work").mkdir(parents=True)
        (place / "stdin").write_bytes(stdin)
        (place / "script").write_text(_SCRIPT.format(command=shlex.join(command)))
        words = [*self._resources(seconds), "--job-name", self._prefix + attempt, "--chdir", str(place), "--parsable"]
        words += ["--output", str(place / "stdout"), "--error", str(place / "stderr"), "--input", str(place / "stdin")]
        job = (await _call("sbatch", *words, str(place / "script"))).strip().partition(";")[0]
        (place / "job").write_text(job)
        return job

    def _resources(self, seconds: float) -> list[str]:
        words = ["--export=NONE", "--no-requeue", "--nodes=1", "--ntasks=1", f"--cpus-per-task={self._cpus}"]
        words += [f"--mem={math.ceil(self._memory_bytes / _MIB)}M", f"--time={math.ceil(seconds / 60) + 1}"]
        return [*words, *self._where()]

    def _where(self) -> list[str]:
        return [] if self._partition is None else [f"--partition={self._partition}"]

    async def _until_over(
        self, job: str, attempt: str, place: Path, seconds: float, on_progress: Callable[[Progress], None]
    ) -> Outcome:
        streams = {
            name: Captured(self._output_bytes, lambda line: on_progress(Progress(None, [line])))
            for name in ("stdout", "stderr")
        }
        read = dict.fromkeys(streams, 0)
        began, failure = time.monotonic(), None
        state = State("PENDING")
        while True:
            state = await self._state(job)
            (self._waiting.add if state.name in WAITING else self._waiting.discard)(attempt)
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
        return outcome_of(state, _exit_code(place), streams, round((time.monotonic() - began) * 1000), failure)

    async def _state(self, job: str) -> State:
        """How a job stands; what Slurm has forgotten, or does not answer for now, is told apart."""
        if not job:
            return State("UNKNOWN")
        try:
            told = await _call("scontrol", "show", "job", "-o", job)
        except SlurmFailed as error:
            return State("UNKNOWN") if "Invalid job id" in str(error) else State("RUNNING", "no answer")
        fields = dict(word.partition("=")[::2] for word in told.split())
        return State(fields.get("JobState", "UNKNOWN"), fields.get("Reason", ""))

    async def _jobs(self) -> dict[str, str]:
        """The jobs of this miner that are not over, by attempt."""
        lines = (await _call("squeue", "-h", "-o", "%A %j")).splitlines()
        named = [line.split() for line in lines]
        return {each[1].removeprefix(self._prefix): each[0] for each in named if each[1].startswith(self._prefix)}

    async def _cancel(self, attempt: str) -> None:
        """Cancel the job of an attempt, and wait until it is gone."""
        deadline = time.monotonic() + END_SECONDS
        with suppress(SlurmFailed):
            await _call("scancel", "--name", self._prefix + attempt)
            while attempt in await self._jobs() and time.monotonic() < deadline:  # noqa: ASYNC110 - Slurm tells nobody
                await asyncio.sleep(ASK_SECONDS / 4)

    async def keep_only(self, attempts: Collection[str]) -> None:
        """After a start: cancel the jobs that an earlier run left and that nobody waits for any more."""
        with suppress(SlurmFailed):
            for attempt in set(await self._jobs()) - set(attempts):
                await self._cancel(attempt)
        for place in self._folder.iterdir():
            if place.name not in attempts:
                shutil.rmtree(place, ignore_errors=True)

    def forget(self, attempt: str) -> None:
        """The server knows how the attempt ended: its folder goes."""
        shutil.rmtree(self._folder / attempt, ignore_errors=True)


def outcome_of(
    state: State, exit_code: int | None, streams: Mapping[str, Captured], milliseconds: int, failure: Failure | None
) -> Outcome:
    """What became of a job: the program's own exit code counts where it wrote one, else what Slurm says."""
    output: dict[str, Any] = {name: stream.text() for name, stream in streams.items()}
    output |= {"exit_code": exit_code, "truncated": any(stream.truncated for stream in streams.values())}
    if failure is None and exit_code != 0:
        failure = _failure_of(state, exit_code)
    if failure is not None:
        failure = with_last_words(failure, output["stderr"])
    return Outcome(output=output, usage={"milliseconds": milliseconds}, error=failure)


def _failure_of(state: State, exit_code: int | None) -> Failure:
    if exit_code is not None:
        return Failure("requester", "exit_nonzero", f"The program ended with exit code {exit_code}.")
    said = f"Slurm says {state.name}" + (f" ({state.reason})" if state.reason not in ("", "None") else "")
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


async def _call(program: str, *words: str, seconds: float = CALL_SECONDS) -> str:
    """What a command of Slurm's says. Raises `SlurmFailed`."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise SlurmFailed(f"{program}: {error.strerror}") from None
    try:
        async with asyncio.timeout(seconds):
            told, complaints = await process.communicate()
    except TimeoutError:
        raise SlurmFailed(f"{program} did not answer within {seconds:g} seconds") from None
    finally:
        if process.returncode is None:
            await end_process(process)
    if process.returncode != 0:
        lines = complaints.decode("utf-8", "replace").strip().splitlines()
        raise SlurmFailed(lines[-1] if lines else f"{program} ended with exit code {process.returncode}")
    return told.decode("utf-8", "replace")

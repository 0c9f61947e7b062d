"""Slurm behind a miner: its commands, as they are called."""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aitbc.kernel.primitives.tasks import end_process
from aitbc_cli.miner.cluster.cluster import CALL_SECONDS, CANARY, CANARY_SECONDS, MIB, Cluster, ClusterFailed, State
from aitbc_cli.miner.cluster.containers import ClusterContainers
from aitbc_cli.miner.cluster.planned import Size
from aitbc_cli.miner.executors.fields import read_text


class Slurm(Cluster):
    """The Slurm that this machine belongs to."""

    NAME = "Slurm"
    MORE = frozenset({"partition"})

    def __init__(self, options: Mapping[str, Any], folder: Path, containers: Mapping[str, Any] | None = None) -> None:
        """`containers` are the options of the kind `container`, where its jobs become Slurm's too."""
        super().__init__(options, folder)
        if containers is not None:
            self.containers = ClusterContainers(containers, self.prefix)
        partition = options.get("partition", (containers or {}).get("partition"))
        self._partition = None if partition is None else read_text(partition, "partition", shortest=1, longest=100)

    async def ping(self) -> None:
        """Ask for the partitions."""
        await _call("sinfo", "-h", "-o", "%P")

    async def try_once(self) -> None:
        """Have a small job of the miner's own run."""
        await self._have_run(self.size, "--wrap", "exit 0")

    async def try_containers(self) -> None:
        """Have the canary of the containers run."""
        assert self.containers is not None
        await self._have_run(self.containers.size, str(self._folder / CANARY / "script"))

    async def _have_run(self, size: Size, *what: str) -> None:
        words = [
            *self._resources(60.0, size),
            "--job-name",
            f"{self.prefix}{CANARY}",
            "--output",
            "/dev/null",
            "--wait",
        ]
        try:
            await _call("sbatch", *words, *what, seconds=CANARY_SECONDS)
        except ClusterFailed:
            await _call("scancel", "--name", f"{self.prefix}{CANARY}")
            raise

    async def free(self) -> int:
        """How many more jobs the cluster would start at once: none while one of this miner's waits for its turn."""
        if self.waiting:
            return 0
        try:
            told = await _call("sinfo", "-h", "-o", "%C", *self._where())
        except ClusterFailed:
            return 0
        cpus = self.size.cpus if self.containers is None else max(self.size.cpus, self.containers.size.cpus)
        return sum(int(line.split("/")[1]) for line in told.split()) // cpus

    async def submit(self, attempt: str, place: Path, seconds: float, size: Size) -> str:
        """Submit the script of an attempt."""
        words = [
            *self._resources(seconds, size),
            "--job-name",
            self.prefix + attempt,
            "--chdir",
            str(place),
            "--parsable",
        ]
        words += ["--output", str(place / "stdout"), "--error", str(place / "stderr"), "--input", str(place / "stdin")]
        return (await _call("sbatch", *words, str(place / "script"))).strip().partition(";")[0]

    def _resources(self, seconds: float, size: Size) -> list[str]:
        words = ["--export=NONE", "--no-requeue", "--nodes=1", "--ntasks=1", f"--cpus-per-task={size.cpus}"]
        words += [f"--mem={math.ceil(size.memory_bytes / MIB)}M", f"--time={math.ceil(seconds / 60) + 1}"]
        return [*words, *self._where()]

    def _where(self) -> list[str]:
        return [] if self._partition is None else [f"--partition={self._partition}"]

    async def state(self, job: str) -> State:
        """How a job stands; what Slurm has forgotten, or does not answer for now, is told apart."""
        if not job:
            return State("UNKNOWN")
        try:
            told = await _call("scontrol", "show", "job", "-o", job)
        except ClusterFailed as error:
            return State("UNKNOWN") if "Invalid job id" in str(error) else State("RUNNING", "no answer")
        fields = dict(word.partition("=")[::2] for word in told.split())
        return State(fields.get("JobState", "UNKNOWN"), fields.get("Reason", ""))

    async def jobs(self) -> dict[str, str]:
        """The jobs of this miner that are not over, by attempt."""
        lines = (await _call("squeue", "-h", "-o", "%A %j")).splitlines()
        named = [line.split() for line in lines]
        return {each[1].removeprefix(self.prefix): each[0] for each in named if each[1].startswith(self.prefix)}

    async def end(self, attempt: str) -> None:
        """Cancel by name."""
        await _call("scancel", "--name", self.prefix + attempt)


async def _call(program: str, *words: str, seconds: float = CALL_SECONDS) -> str:
    """What a command of Slurm's says. Raises `ClusterFailed`."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise ClusterFailed(f"{program}: {error.strerror}") from None
    try:
        async with asyncio.timeout(seconds):
            told, complaints = await process.communicate()
    except TimeoutError:
        raise ClusterFailed(f"{program} did not answer within {seconds:g} seconds") from None
    finally:
        if process.returncode is None:
            await end_process(process)
    if process.returncode != 0:
        lines = complaints.decode("utf-8", "replace").strip().splitlines()
        raise ClusterFailed(lines[-1] if lines else f"{program} ended with exit code {process.returncode}")
    return told.decode("utf-8", "replace")

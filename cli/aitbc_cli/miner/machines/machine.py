"""One booker's machine: a container that lives as long as the daemon holds it, and the folders that are its disk."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc.kernel.primitives.tasks import finish
from aitbc_cli.miner.containers import confinement, holder
from aitbc_cli.miner.containers.confinement import Allowance, Container, Owner
from aitbc_cli.miner.containers.runtime import Runtime, RuntimeFailed, environment, last_line
from aitbc_cli.miner.executors.program import disk_bytes
from aitbc_cli.miner.executors.work import Gpu

START_SECONDS = 60.0
STOP_SECONDS = 10.0
WORK = "/disk"
"""Where a machine's own files are, in the container; beside it `/tmp`."""
_STEP_SECONDS = 0.05


class MachineFailed(Exception):
    """The machine cannot do this; the message says why."""


@dataclass(frozen=True)
class Given:
    """What a machine gets."""

    runtime: Runtime
    owner: Owner
    allowance: Allowance
    gpus: Sequence[Gpu]


class Machine:
    """The machine of one booking: none, until it is started."""

    def __init__(self, booking: str, folder: Path) -> None:
        self.booking = booking
        self.folder = folder
        self.name = f"aitbc-machine-{booking.removeprefix('book_')}"
        self.given: Given | None = None
        self.image, self.has_network = "", False
        self.pid = 0
        """Its first process, as this machine numbers it."""
        self._process: asyncio.subprocess.Process | None = None
        self._said = b""
        self._reading: asyncio.Task[None] | None = None
        self._allowed = 0

    @property
    def runs(self) -> bool:
        """Whether its container runs."""
        return self._process is not None and self._process.returncode is None and self.pid > 0

    async def start(self, given: Given, image: str, *, network: bool) -> None:
        """Start its container, from an image that is here. Raises `MachineFailed`."""
        await self.stop()
        self.given, self.image, self.has_network = given, image, network
        await asyncio.to_thread(self._make_folders)
        container = Container(
            name=self.name,
            image=image,
            entrypoint=holder.PATH,
            env={"HOME": WORK, "AITBC_BOOKING": self.booking},
            mounts={
                holder.PATH: (self.folder / "hold", False),
                WORK: (self.folder / "work", True),
                "/tmp": (self.folder / "tmp", True),  # noqa: S108 - within the container
            },
            gpus=given.gpus,
            has_network=network,
        )
        try:
            await asyncio.to_thread(given.runtime.remove, self.name)
        except RuntimeFailed as error:
            if "no such container" not in str(error).lower():
                raise MachineFailed(f"the machine cannot be started: {error}") from None
        words = confinement.run_words(given.runtime, container, given.allowance, given.owner)
        self._process = await asyncio.create_subprocess_exec(
            *(*given.runtime.words, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
            cwd=self.folder,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        try:
            await self._until_running(given.runtime)
        except BaseException:
            await self.stop()
            raise

    async def _until_running(self, runtime: Runtime) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                while self._process.returncode is None:
                    state: Any = await asyncio.to_thread(runtime.state, self.name)
                    if state is not None and state.get("Running") and state.get("Pid"):
                        self.pid = int(state["Pid"])
                        return
                    await asyncio.sleep(_STEP_SECONDS)
        except TimeoutError:
            raise MachineFailed(f"the machine was not up after {START_SECONDS:g} seconds") from None
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=1)
        why = last_line(self._said.decode("utf-8", "replace"))
        raise MachineFailed(f"the machine cannot be started: {why or 'its container ended at once'}")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last words of the runtime."""
        assert process.stderr is not None
        while said := await process.stderr.read(4096):
            self._said = (self._said + said)[-4096:]

    def _make_folders(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        work, temporary, hold = (self.folder / name for name in ("work", "tmp", "hold"))
        work.mkdir(mode=0o700, exist_ok=True)
        temporary.mkdir()
        temporary.chmod(0o1777)
        if (user := confinement.user_of()) is not None:
            os.chown(work, user, user)
        hold.write_bytes(holder.program())
        hold.chmod(0o755)
        assert self.given is not None
        # Who filled the disk may come back and make room; what is far beyond was written faster than it was watched.
        limit = self.given.allowance.disk_bytes
        held = disk_bytes(work, enough=2 * limit)
        if held > 2 * limit:
            wipe(work)
            self._make_folders()
        self._allowed = max(limit, held)

    def is_full(self) -> bool:
        """Whether its folders hold more than they may; it reads them all, so call it in a thread."""
        return any(disk_bytes(self.folder / name, enough=self._allowed) > self._allowed for name in ("work", "tmp"))

    async def stop(self) -> None:
        """End its container with all that runs there; its disk stays. A cancellation does not leave it half ended."""
        await finish(self._stop())

    async def _stop(self) -> None:
        process, self._process, self.pid = self._process, None, 0
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
        if self.given is not None:
            try:
                await asyncio.to_thread(self.given.runtime.remove, self.name)
            except RuntimeFailed as error:
                if "no such container" not in str(error).lower():
                    raise MachineFailed(str(error)) from None
        await process.wait()

    async def end(self) -> None:
        """End it, and wipe its disk."""
        await self.stop()
        await asyncio.to_thread(wipe, self.folder)


def wipe(folder: Path) -> None:
    """Remove a folder with all that a stranger left in it. Nobody writes there any more."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for place, names, _ in os.walk(folder):
            for name in names:
                if not (found := Path(place) / name).is_symlink():
                    found.chmod(0o700)
        shutil.rmtree(folder)

"""An engine that runs: a process below a launcher, which speaks OpenAI's protocol on a loopback port."""

import asyncio
import http.client
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import aitbc_cli
from aitbc.kernel.primitives.tasks import cancel_and_wait, finish
from aitbc_cli.miner.executors import process_tree
from aitbc_cli.miner.serving.declared import ServedModel

_HOST = "127.0.0.1"
_LOOK_SECONDS = 0.1
_ANSWER_SECONDS = 5.0
_PIPE_SECONDS = 5.0
"""How long the last words of a process that has ended are waited for."""
_ANSWER_BYTES = 1024 * 1024
_LAST_WORDS_BYTES = 4096
_WORDS_SHOWN = 300


class EngineFailed(Exception):
    """The engine did not come up, or is gone; the message says what it said last."""


class Engine:
    """The miner's hold on an engine."""

    def __init__(self, model: ServedModel, process: asyncio.subprocess.Process, port: int) -> None:
        self.url = f"http://{_HOST}:{port}/v1"
        self.upstream = model.name
        """What the engine calls the model."""
        self._model = model
        self._port = port
        self._process = process
        self._last_words = b""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, model: ServedModel, *, slots: int, scratch: Path, seconds: float) -> "Engine":
        """An engine that answers. Raises `EngineFailed` where it ends or does not answer within `seconds`."""
        port = _free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "aitbc_cli.miner.serving.launcher", str(os.getpid())),
            *model.words(port=port, slots=slots),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=scratch,
            env=_environment(),
            start_new_session=True,
        )
        engine = cls(model, process, port)
        try:
            async with asyncio.timeout(seconds):
                await engine._until_it_answers()
        except TimeoutError:
            await engine.stop()
            raise EngineFailed(f"it did not answer within {seconds:g} seconds") from None
        except BaseException:
            await engine.stop()
            raise
        return engine

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.returncode is None

    @property
    def memory_bytes(self) -> int:
        """The main memory that its processes hold now."""
        pids = [self._process.pid, *process_tree.living(self._process.pid)]
        return sum(process_tree.proportional_bytes(pid) for pid in pids)

    async def is_well(self) -> bool:
        """Whether it answers that it is ready."""
        return self.alive and await asyncio.to_thread(_is_ready, self._port)

    async def stop(self) -> None:
        """End it with everything it started; a cancellation does not leave it half ended."""
        await finish(self._end())

    async def _end(self) -> None:
        if self.alive:
            await asyncio.to_thread(process_tree.kill_tree, self._process.pid)
        await self._process.wait()
        await asyncio.wait({self._listening}, timeout=_PIPE_SECONDS)
        await cancel_and_wait([self._listening])

    async def ended(self) -> str:
        """Wait until its process has ended; says how, with its last words."""
        code = await self._process.wait()
        await asyncio.wait({self._listening}, timeout=_PIPE_SECONDS)
        said = self._last_words.decode("utf-8", "replace").strip().splitlines()
        return f"it ended with exit code {code}" + (f": {said[-1][:_WORDS_SHOWN]}" if said else "")

    async def _until_it_answers(self) -> None:
        """Wait until it is ready, and learn what it calls its model. Raises `EngineFailed` when it ends."""
        while not await asyncio.to_thread(_is_ready, self._port):
            if not self.alive:
                raise EngineFailed(await self.ended())
            await asyncio.sleep(_LOOK_SECONDS)
        if not self.alive:  # something else answered on its port
            raise EngineFailed(await self.ended())
        listed = await asyncio.to_thread(_listed, self._port)
        if listed and self._model.name not in listed:
            self.upstream = listed[0]

    async def _listen(self) -> None:
        """Read what it says to the end, so that it never waits for a reader, and keep its last words."""
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65_536):
            self._last_words = (self._last_words + data)[-_LAST_WORDS_BYTES:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """The owner's own, since what an engine needs is theirs to know; without what speaks for them on this platform."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AITBC_")}
    search = [str(Path(aitbc_cli.__file__).parent.parent), *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return kept | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(search))}


def _is_ready(port: int) -> bool:
    """Whether the engine answers that it is ready: by its health, or where it tells none by its models."""
    status, _ = _get(port, "/health")
    return status == 200 or (status in (404, 405) and _get(port, "/v1/models")[0] == 200)


def _listed(port: int) -> list[str]:
    """The models that it lists; none where it has no list that can be read."""
    try:
        entries = json.loads(_get(port, "/v1/models")[1])["data"]
        return [str(entry["id"]) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def _get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of an answer; status 0 without one."""
    end = time.monotonic() + _ANSWER_SECONDS
    connection = http.client.HTTPConnection(_HOST, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body: Any = response.read(_ANSWER_BYTES)
        return (response.status, body) if time.monotonic() < end else (0, b"")
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()

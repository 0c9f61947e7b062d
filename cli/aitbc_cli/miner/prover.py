"""Proofs of hardware, as the miner carries them out: one GPU at a time, while no program has it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aitbc.kernel.primitives.tasks import end_process
from aitbc_cli.miner.client import Fields, MinerClient, Refused, Unreachable
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.gpus import Gpus

PROGRAM = Path(__file__).with_name("proof_program.py")
RECHECK_SECONDS = 6 * 3600.0
RETRY_SECONDS = 3600.0
"""How long after a proof that failed, or could not begin, the next is tried."""
LOOK_SECONDS = 5.0
LINE_SECONDS = 180.0
"""How long the program may take for one line; the platform's deadlines are shorter."""
LINE_BYTES_MAX = 8 * 1024 * 1024
MEASURED = "being measured"
OPEN = frozenset({"product", "rows", "memory", "reads"})
PROOF: Fields = {"id": str, "step": str, "seed": str, "size": int, "memory_mib": int, "picked": list}


class NoRuntime(Exception):
    """No Python here can multiply on the GPU; the message says why."""


class Prover:
    """Proves each GPU at the start and every six hours."""

    def __init__(self, gpus: Gpus, pythons: Sequence[str], event_log: EventLog, runtime: str = "auto") -> None:
        self._gpus = gpus
        self._pythons = pythons
        self._event_log = event_log
        self._runtime = runtime
        self._due: dict[str, float] = {}
        """When each GPU is to be proved next, by the clock of this machine."""

    async def run(self, client: MinerClient, tell: Callable[[], Awaitable[None]]) -> None:
        """Prove what is due, for as long as the miner works; `tell` sends a heartbeat with readings."""
        while True:
            for uuid in self._gpus.idle:
                if self._due.get(uuid, 0.0) <= time.monotonic():
                    self._due[uuid] = time.monotonic() + await self._prove(client, uuid, tell)
            await asyncio.sleep(LOOK_SECONDS)

    async def _prove(self, client: MinerClient, uuid: str, tell: Callable[[], Awaitable[None]]) -> float:
        """Prove one GPU; answers after how many seconds it is due again."""
        try:
            program = await _Program.start(self._pythons, uuid, self._runtime)
        except NoRuntime as why:
            self._event_log.note("gpu_unverified", gpu=uuid, reason=f"unverified: no runtime: {why}")
            return RETRY_SECONDS
        try:
            gpu = self._gpus.whole(uuid)
            if not await self._gpus.until_free([gpu], 0.0):
                return 0.0
            self._gpus.condition.rest(uuid, MEASURED)
            await tell()
            with self._gpus.held([gpu]):
                proof = await _carry_out(client, program, uuid)
        except (Unreachable, Refused, NoRuntime) as error:
            self._event_log.note("gpu_unverified", gpu=uuid, reason=f"unverified: {error}")
            return RETRY_SECONDS
        except (KeyError, TypeError, ValueError) as error:  # the program said something else than it should
            self._event_log.note("gpu_unverified", gpu=uuid, reason=f"unverified: {error!r}")
            return RETRY_SECONDS
        finally:
            await program.end()
            self._gpus.condition.rest(uuid, None)
            await self._gpus.condition.drained([uuid])
            with suppress(Exception):
                await tell()
        passed = proof["step"] == "passed"
        self._event_log.note("gpu_measured" if passed else "gpu_unverified", gpu=uuid, reason=proof.get("reason"))
        return RECHECK_SECONDS if passed else RETRY_SECONDS


async def _carry_out(client: MinerClient, program: "_Program", uuid: str) -> Any:
    """All steps of a proof; answers how it ended. Raises `Unreachable`, `Refused`, `NoRuntime`."""
    proof = await client.call("POST", "/gpu/proofs", {"gpu": uuid}, expects=PROOF)
    while proof["step"] in OPEN:
        body = await _answer(program, proof)
        proof = await client.call("POST", f"/gpu/proofs/{proof['id']}", body, expects=PROOF, seconds=60.0)
    return proof


async def _answer(program: "_Program", proof: Any) -> dict[str, Any]:
    if proof["step"] == "product":
        found = await program.ask({"do": "product", "seed": proof["seed"], "size": proof["size"]})
        return {"root": found["root"], "runtime": found["runtime"][:64]}
    if proof["step"] == "rows":
        return {"rows": (await program.ask({"do": "rows", "rows": proof["picked"]}))["rows"]}
    if proof["step"] == "memory":
        await program.ask({"do": "fill", "seed": proof["seed"], "mib": proof["memory_mib"]})
        return {"filled": True}
    return {"values": (await program.ask({"do": "read", "places": proof["picked"]}))["values"]}


class _Program:
    """The program that works on the GPU, in a Python that has a runtime."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, pythons: Sequence[str], uuid: str, runtime: str) -> "_Program":
        """The program in the first of these Pythons that can use the GPU. Raises `NoRuntime`."""
        said = "there is no Python"
        for python in pythons:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(python, str(PROGRAM), runtime),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={"PATH": "/usr/local/bin:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": uuid},
                    limit=LINE_BYTES_MAX,
                )
            except OSError as error:
                said = f"{python} cannot be started ({error})"
                continue
            program = cls(process)
            try:
                await program._line()
            except NoRuntime as why:
                said = f"{python}: {why}"
                await program.end()
                continue
            except BaseException:
                await program.end()
                raise
            return program
        raise NoRuntime(said)

    async def ask(self, line: dict[str, Any]) -> Any:
        """The answer to one line. Raises `NoRuntime` where the program failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        except OSError as error:
            raise NoRuntime(f"the program ended ({error})") from None
        return await self._line()

    async def _line(self) -> Any:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(LINE_SECONDS):
                answer = json.loads(await self._process.stdout.readline())
        except TimeoutError:
            raise NoRuntime(f"the program did not answer within {LINE_SECONDS:g} seconds") from None
        except ValueError:
            raise NoRuntime("the program ended without a word") from None
        if "error" in answer:
            raise NoRuntime(str(answer["error"]))
        return answer

    async def end(self) -> None:
        """End the program, and wait until it is gone."""
        await end_process(self._process)

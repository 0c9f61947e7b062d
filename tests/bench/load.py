"""The load: a process of its own that gets ready, waits for the word `go`, and tells what it saw.

Started as `python -m tests.bench.load SCENARIO` with its plan as one line of JSON on its input; see `Load` for the other end.
"""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop

from tests.bench import lives, readings, waits

Scenario = Callable[[dict[str, Any], Callable[[], Awaitable[None]]], Awaitable[dict[str, float]]]
SCENARIOS: dict[str, Scenario] = {"lives": lives.run, "readings": readings.run, "waits": waits.run}


class Load:
    """This process's end of a load that runs in another one."""

    def __init__(self, scenario: str, **plan: Any) -> None:
        """Start it; returns once it is ready."""
        command = [sys.executable, "-m", "tests.bench.load", scenario]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._tell(msgspec.json.encode(plan))
        self._hear()

    def go(self) -> dict[str, float]:
        """Let it run to its end; gives what it saw."""
        self._tell(b"go")
        told = msgspec.json.decode(self._hear(), type=dict[str, float])
        self._process.communicate(timeout=30)
        return told

    def end(self) -> None:
        """Stop it, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _hear(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError("the load ended before it was ready or done; see above")
        return line


async def _main(scenario: str) -> None:
    plan = msgspec.json.decode(sys.stdin.readline(), type=dict[str, Any])

    async def ready() -> None:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

    told = await SCENARIOS[scenario](plan, ready)
    print(msgspec.json.encode(told).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))

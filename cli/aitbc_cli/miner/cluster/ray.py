"""Ray behind a miner: the REST of its jobs, at the address of its dashboard. The miner needs no package of Ray's."""

import asyncio
import json
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import aiohttp

from aitbc_cli.miner.cluster.cluster import (
    ASK_SECONDS,
    CALL_SECONDS,
    CANARY_SECONDS,
    RUNNING,
    WAITING,
    Cluster,
    ClusterFailed,
    State,
)
from aitbc_cli.miner.cluster.planned import Size

STATES = {"PENDING": "PENDING", "RUNNING": "RUNNING", "SUCCEEDED": "COMPLETED", "STOPPED": "CANCELLED"}
"""States of Ray's jobs, in the words of Slurm; one that is not here has failed."""
GONE = ("JOB_SUPERVISOR", "supervisor", "actor died", "actor is dead", "node")
"""Words of a failure that is the cluster's and not the program's."""
_SCRIPT = """#!/bin/sh
# Programs end with what started them, and see nothing of the environment of `ray start`.
held=
command -v setpriv >/dev/null && held="setpriv --pdeathsig KILL --"
[ -n "$held" ] && [ -z "$AITBC_HELD" ] && AITBC_HELD=1 exec $held /bin/sh "$0"
cd {place}/work || exit 1
env -i PATH="$PATH" HOME="$PWD" LANG=C.UTF-8 $held {command} <../stdin >../stdout 2>../stderr
code=$?
printf %s "$code" >../exit.new && mv ../exit.new ../exit
exit "$code"
"""


class Ray(Cluster):
    """The Ray cluster with this dashboard."""

    NAME: ClassVar[str] = "Ray"

    def __init__(self, options: Mapping[str, Any], folder: Path, url: str) -> None:
        super().__init__(options, folder)
        self._url = url.rstrip("/")

    async def ping(self) -> None:
        """Ask for the version."""
        await self._ask("GET", "/api/version")

    async def try_once(self) -> None:
        """Have a small job of the miner's own run."""
        name = f"{self.prefix}canary-{secrets.token_hex(4)}"
        await self._ask("POST", "/api/jobs/", self._wanted(name, "exit 0"))
        try:
            async with asyncio.timeout(CANARY_SECONDS):
                while (state := await self.state(name)).name in WAITING | RUNNING:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(ASK_SECONDS / 4)
        except TimeoutError:
            await self._ask("POST", f"/api/jobs/{name}/stop")
            raise ClusterFailed(f"its own job was not over after {CANARY_SECONDS:g} seconds") from None
        if state.name != "COMPLETED":
            raise ClusterFailed(f"its own job ended as {state.name} ({state.reason})")

    async def free(self) -> int:
        """How many more jobs the cluster would start at once: none while one of this miner's waits for its turn."""
        if self.waiting:
            return 0
        try:
            told = await self._ask("GET", "/api/cluster_status")
            report = told["data"]["clusterStatus"]["loadMetricsReport"]["usage"]["CPU"]
            return int((report[1] - report[0]) // self.size.cpus)
        except (ClusterFailed, KeyError, TypeError, IndexError):
            return 0

    def script(self, place: Path, command: str) -> str:
        """What the job of a command runs."""
        return _SCRIPT.format(place=shlex.quote(str(place)), command=command)

    async def submit(self, attempt: str, place: Path, seconds: float, size: Size) -> str:
        """Submit the script of an attempt."""
        name = self.prefix + attempt
        await self._ask("POST", "/api/jobs/", self._wanted(name, f"/bin/sh {shlex.quote(str(place / 'script'))}"))
        return name

    def _wanted(self, name: str, entrypoint: str) -> dict[str, Any]:
        return {
            "submission_id": name,
            "entrypoint": entrypoint,
            "entrypoint_num_cpus": self.size.cpus,
            "entrypoint_memory": self.size.memory_bytes,
        }

    async def state(self, job: str) -> State:
        """How a job stands."""
        if not job:
            return State("UNKNOWN")
        try:
            told = await self._ask("GET", f"/api/jobs/{job}")
        except ClusterFailed as error:
            return State("UNKNOWN") if "does not exist" in str(error) else State("RUNNING", "no answer")
        said = str(told.get("message") or "")[:300]
        name = STATES.get(str(told.get("status")), "FAILED")
        if name == "FAILED" and told.get("driver_exit_code") is None and any(word in said for word in GONE):
            name = "NODE_FAIL"
        return State(name, said)

    async def jobs(self) -> dict[str, str]:
        """The jobs of this miner that are not over, by attempt."""
        told = await self._ask("GET", "/api/jobs/")
        mine = [each for each in told if str(each.get("submission_id")).startswith(self.prefix)]
        names = [str(each["submission_id"]) for each in mine if each.get("status") in ("PENDING", "RUNNING")]
        return {name.removeprefix(self.prefix): name for name in names}

    async def end(self, attempt: str) -> None:
        """Have it stopped; Ray kills it three seconds later."""
        await self._ask("POST", f"/api/jobs/{self.prefix}{attempt}/stop")

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the dashboard answers. Raises `ClusterFailed`."""
        limit = aiohttp.ClientTimeout(total=CALL_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
                session.request(method, self._url + path, json=body, allow_redirects=False) as answer,
            ):
                text = await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError) as error:
            raise ClusterFailed(f"{self._url} does not answer ({type(error).__name__})") from None
        if answer.status != 200:
            lines = text.strip().splitlines()
            raise ClusterFailed((lines[-1] if lines else f"it answers {answer.status}")[:300])
        try:
            return json.loads(text)
        except ValueError:
            raise ClusterFailed("its answer is no JSON: is this the dashboard of a Ray?") from None

"""A served installation and the people in it, who know it only through the program."""

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import httpx

from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement
from tests.chaos.server_process import ServerProcess
from tests.cli.forked_program import as_forked
from tests.cli.program import Ended, as_program, surroundings
from tests.cli.tiny_server import nowhere
from tests.journeys.hand_miner import HandMiner
from tests.plain_http import UNUSED_TLS

WORK_SECONDS = 40.0


class Person:
    """Somebody with a home and a key, who types commands."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.home = Path(environment["HOME"])

    def does(self, *words: str, code: int = 0, input: str | None = None) -> Ended:  # noqa: A002 - as in subprocess
        """Run the command line, which must end with this exit code and without a traceback; with `input` as the program it is."""
        if input is None:
            ended = as_forked(*words, environment=self.environment, folder=self.home)
        else:
            ended = as_program(*words, environment=self.environment, cwd=self.home, input=input)
        assert ended.code == code, (words, ended)
        assert "Traceback" not in ended.err and "error of the program" not in ended.err, ended.err
        return ended

    def gets(self, *words: str, code: int = 0) -> Any:
        """What the program answers in JSON."""
        return json.loads(self.does(*words, "-o", "json", code=code).out)

    def knows(self, **more: str) -> "Person":
        """The same person with other variables set."""
        return Person({**self.environment, **more})


class CliInstallation:
    """One server, its operator on the same machine, and Alice, whom the operator made an account."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """`settings` are variables of the server's."""
        self.folder = folder
        self.server = ServerProcess(folder / "state", int(nowhere().rpartition(":")[2]), **settings)
        self.admin = self.person("admin", AITBC_STATE_DIR=str(folder / "state"))
        self.alice = self.person("nobody")

    def person(self, name: str, **more: str) -> Person:
        """Somebody with a home of their own, and no key yet."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return Person(surroundings(home, AITBC_URL=self.server.url, **more))

    def resident(self, name: str, *, funds: str | None = None) -> Person:
        """Somebody with an account, a key in a file, and play money."""
        account = self._operator_posts("identity/accounts", {"name": name})["id"]
        wanted = {"name": "laptop", "kind": "live", "account": account, "expires_in_days": 1}
        issued = self._operator_posts("identity/keys", wanted)
        if funds is not None:
            self._operator_posts("trading/deposits", {"account": account, "amount": funds, "reason": "welcome"})
        person = self.person(name, ACCOUNT=account)
        key = person.home / "key"
        key.touch(0o600)
        key.write_text(issued["secret"])
        return person.knows(AITBC_API_KEY_FILE=str(key))

    def _operator_posts(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {self.server.admin_key}", "Idempotency-Key": uuid.uuid4().hex}
        answer = httpx.post(f"{self.server.url}/api/v1/{path}", json=body, headers=headers, verify=UNUSED_TLS)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def settle(self) -> None:
        """Let Alice in, another one each time."""
        self.alice = self.resident(f"alice-{uuid.uuid4().hex[:6]}", funds="10")


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[CliInstallation]:
    """An installation as long as the block lasts; Alice is still to come. `settings` are variables of the server's."""
    installation = CliInstallation(folder, **settings)
    installation.server.start()
    try:
        yield installation
    finally:
        installation.server.stop()


class MinerAtWork(Thread):
    """A miner made by hand: enrols with a token, does whatever waits, and goes at the end of the block.

    Jobs of other tests may wait too, so it does not stop at the first. `fails` lets it fail each of them.
    """

    def __init__(self, url: str, token: str, *, fails: bool = False, gpus: Sequence[str] = ()) -> None:
        super().__init__(daemon=True)
        self.url, self.token, self.fails, self.gpus = url, token, fails, gpus
        self.miner = ""
        self._online = Event()
        self.problem: BaseException | None = None
        self._over = Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(WORK_SECONDS)
        if self.problem is not None:
            raise self.problem
        assert not self.is_alive(), "the miner did not end"

    def wait_until_online(self) -> None:
        """Until it has sent a heartbeat; `miner` is its id then."""
        assert self._online.wait(WORK_SECONDS)

    def run(self) -> None:
        """Work in a loop of its own."""
        try:
            asyncio.run(self._work())
        except BaseException as problem:  # noqa: BLE001 - it is raised where the miner is awaited
            self.problem = problem

    async def _work(self) -> None:
        miner = await self._enrolled()
        async with miner.client:
            await miner.beat()
            self.miner = miner.id
            self._online.set()
            while not self._over.is_set():
                for lease in await miner.poll(wait=0.5):
                    answer = await (self._failure(miner, lease) if self.fails else miner.deliver(lease))
                    assert answer.status_code == 200, answer.text

    async def _enrolled(self) -> HandMiner:
        key = Key.generate()
        statement = canonical(enrolment_statement(token=self.token, public_key=key.public))
        body: dict[str, Any] = {"token": self.token, "public_key": key.public, "proof": key.sign(statement)}
        body |= {"name": "by hand", "slots": 1, "capabilities": {"kinds": ["embed"]}}
        if self.gpus:
            body["capabilities"] |= {"device": "gpu", "gpu_models": list(self.gpus), "vram_mib": 81_559}
        body["inventory"] = {"devices": [{"type": "cuda", "name": name} for name in self.gpus]}
        async with httpx.AsyncClient(base_url=self.url, verify=UNUSED_TLS) as nobody:
            told = (await nobody.post("/api/v1/gpu/enrolments", json=body)).json()
        headers = {"Authorization": f"Bearer {told['api_key']}"}
        client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=WORK_SECONDS, verify=UNUSED_TLS)
        return HandMiner(key, told["miner"], client)

    async def _failure(self, miner: HandMiner, lease: dict[str, Any]) -> httpx.Response:
        body = {"token": lease["token"], "fault": "requester", "reason": "bad_input", "message": "no such text"}
        return await miner.client.post(f"/api/v1/gpu/leases/{lease['attempt']}/failure", json=body)

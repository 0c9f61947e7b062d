"""The shapes that one installation can have: the same journeys run in each and cannot tell which one it is."""

import itertools
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from tests.app import Caller
from tests.chaos.server_process import ServerProcess
from tests.journeys.hand_miner import Place
from tests.nats_server import NatsServer
from tests.server.runtime.test_serve import free_port

MODULES = ("gpu", "ai", "trading")
TIMEOUT_SECONDS = 30.0
Databases = Callable[[], Target]


def placed(**places: str) -> dict[str, str]:
    """The environment of an installation with modules in these places, on ports that are free."""
    chosen = {f"AITBC_MODULES__{name.upper()}__PLACE": place for name, place in places.items()}
    return chosen | {f"AITBC_MODULES__{name.upper()}__PORT": str(free_port()) for name in places}


class TestInstallation:
    """A served installation of any shape, and callers for it, as a `TestApp` has them."""

    __test__ = False  # pytest takes it for a test class

    def __init__(self, servers: list[ServerProcess]) -> None:
        self.servers = servers
        self._next = itertools.cycle(servers)

    def client(self, secret: str | None = None) -> httpx.AsyncClient:
        """A client of one of the servers: the next one each time."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=next(self._next).url, headers=headers, timeout=TIMEOUT_SECONDS)

    async def admin(self) -> Caller:
        """The operator."""
        secret = self.servers[0].admin_key
        client = self.client(secret)
        told = (await client.get("/api/v1/identity/keys/self")).json()
        return Caller(Principal(told["account"], told["key"], "admin", frozenset({"*"})), secret, client)

    async def who(self, name: str = "someone", *, funds: str | None = None) -> Caller:
        """A new caller; with `funds` its account has play money."""
        admin = await self.admin()
        account = _made(await admin.post("/api/v1/identity/accounts", {"name": f"{name}-{secrets.token_hex(6)}"}))["id"]
        issued = _made(await admin.post("/api/v1/identity/keys", {"name": "test", "account": account}))
        if funds is not None:
            deposit = {"account": account, "amount": funds, "reason": "test"}
            _made(await admin.post("/api/v1/trading/deposits", deposit))
        principal = Principal(account, issued["id"], "live", frozenset(issued["scopes"]))
        return Caller(principal, issued["secret"], self.client(issued["secret"]))


async def clear(installation: Place) -> None:
    """Cancel what a journey left waiting, so that the next one finds nothing of it."""
    admin = await installation.admin()
    for state in ("queued", "leased", "running"):
        for job in (await admin.get("/api/v1/ai/jobs", status=state, limit=500)).json()["data"]:
            await admin.post(f"/api/v1/ai/jobs/{job['id']}/cancel")


def _made(answer: httpx.Response) -> Any:
    assert answer.status_code == 201, answer.text
    return answer.json()


@contextmanager
def installed(
    shape: str, folder: Path, new_database: Databases, more: Mapping[str, str] | None = None
) -> Iterator[TestInstallation]:
    """A running installation of one of the `ALL_SHAPES`, with `more` settings by their variables."""
    with ExitStack() as stack:
        settings = dict(more or {})
        if shape.endswith(OVER_NATS):
            nats = NatsServer(folder / "nats")
            nats.start()
            stack.callback(nats.stop)
            settings["AITBC_NATS_URL"] = nats.url
            shape = shape.removesuffix(OVER_NATS)
        if shape == REPLICAS:
            yield stack.enter_context(two(folder, new_database(), **settings))
        else:
            yield stack.enter_context(one(folder, placed(**(SHAPES | HERMES_SPLIT)[shape]) | settings))


@contextmanager
def one(folder: Path, environment: Mapping[str, str]) -> Iterator[TestInstallation]:
    """An installation with one main process."""
    server = ServerProcess(folder / "state", free_port(), **environment)
    server.start()
    try:
        yield TestInstallation([server])
    finally:
        server.stop()


@contextmanager
def two(folder: Path, database: Target, **settings: str) -> Iterator[TestInstallation]:
    """Two servers over one PostgreSQL, with the same secrets."""
    url = f"postgresql://{database.user}@localhost:{database.port}/{database.database}?host={database.host}"
    shared = {"AITBC_DATABASE__URL": url, "AITBC_SECRET_KEY": secrets.token_hex(32), **settings}
    servers = [ServerProcess(folder / name / "state", free_port(), **shared) for name in ("a", "b")]
    first, second = (server.state for server in servers)
    for state in (first, second):
        state.mkdir(parents=True, mode=0o700)
    Key.load(first / "node.key", create=True)
    with ExitStack() as stack:
        servers[0].start()
        stack.callback(servers[0].stop)
        for name in ("node.key", "admin.key"):
            shutil.copy2(first / name, second / name)
        servers[1].start()
        stack.callback(servers[1].stop)
        yield TestInstallation(servers)


SHAPES: dict[str, dict[str, str]] = {
    "mounted": {},
    "exposed": dict.fromkeys(MODULES, "exposed"),
    **{f"{name} split": {name: "split"} for name in MODULES},
    "all split": dict.fromkeys((*MODULES, "plugins"), "split"),
}
"""Shapes with one main process, and the places of their modules."""
HERMES_SPLIT: dict[str, dict[str, str]] = {"hermes split": dict.fromkeys(("hermes", "ai"), "split")}
"""Shapes for the journeys of agents alone."""
REPLICAS = "two replicas"
OVER_NATS = ", over NATS"
ALL_SHAPES = (*SHAPES, "all split" + OVER_NATS, REPLICAS, REPLICAS + OVER_NATS)
FEW_SHAPES = ("all split" + (OVER_NATS if NatsServer.is_installed() else ""), REPLICAS)
"""Those that are furthest from one process: what goes wrong in another shape goes wrong in one of them, more often than not."""

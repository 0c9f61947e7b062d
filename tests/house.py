"""The whole house for a test: every module wired over a fresh database, behind its real boundary, asked in process."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from aitbc.app import MODULES
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.ids import new_id
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.config.settings import Settings
from aitbc.server.runtime.application import asgi_app, litestar
from aitbc.server.runtime.bootstrap import Runtime, build


@dataclass
class Caller:
    """Somebody with an account, a key, and an HTTP client that sends it."""

    principal: Principal
    secret: str
    client: httpx.AsyncClient

    async def get(self, path: str, **query: Any) -> httpx.Response:
        """Read something."""
        return await self.client.get(path, params=query or None)

    async def post(self, path: str, body: Any = None, *, once: str | None = None) -> httpx.Response:
        """Command something, under a fresh Idempotency-Key unless one is given."""
        content: dict[str, Any] = {} if body is None else {"json": body}
        return await self.client.post(path, headers={"Idempotency-Key": once or uuid.uuid4().hex}, **content)


@dataclass
class Stage:
    """A running house, and the way to people in it."""

    house: Runtime
    app: Any
    transport: httpx.ASGITransport

    def client(self, secret: str | None = None) -> httpx.AsyncClient:
        """An HTTP client that comes in through the boundary."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(transport=self.transport, base_url="http://localhost", headers=headers)

    async def who(self, name: str = "someone", *, funds: str | None = None, **grant: Any) -> Caller:
        """A new caller; with `funds` its account has play money."""
        identity = self.house.identity
        account = await identity.create_account(self.house.operator, f"{name}-{uuid.uuid4().hex[:12]}")
        issued = await identity.issue(account=account.id, kind="live", name="test", **grant)
        if funds is not None:
            trading = self.house.wired.services["trading"]
            await trading.deposits.deposit(self.house.operator, account.id, parse(funds), "test", IdempotencyKey.NONE)
        return Caller(await identity.authenticate(issued.secret), issued.secret, self.client(issued.secret))

    async def admin(self) -> Caller:
        """The operator."""
        secret = (self.house.settings.state_dir / "admin.key").read_text().strip()
        return Caller(self.house.operator, secret, self.client(secret))

    def service(self, name: str) -> Any:
        """A module's service."""
        return self.house.wired.services[name]


@asynccontextmanager
async def open_house(
    target: Target, state_dir: Path, *, modules: Sequence[Module] = MODULES, **settings: Any
) -> AsyncIterator[Stage]:
    """Build and run everything over one database, until the block ends."""
    made = Settings(state_dir=state_dir, **settings)
    house = await build(made, modules, owner=target)
    metrics = Metrics(this_build(), loop_lag=house.platform.loop_lag)
    inner = litestar(house, this_build(), metrics)
    app = asgi_app(inner, house, metrics)
    async with inner.lifespan():
        yield Stage(house, app, httpx.ASGITransport(app=cast(Any, app)))


def fresh(prefix: str) -> str:
    """An id that nothing has."""
    return new_id(prefix)

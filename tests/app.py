"""The test app: every module wired over a fresh database, behind its real boundary, in the process of the test."""

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
from aitbc.server.config.settings import DatabaseSettings, Settings
from aitbc.server.runtime.application import asgi_app, litestar
from aitbc.server.runtime.bootstrap import Runtime, build
from aitbc.web.site import Site
from tests.postgres import migrated_already
from tests.registered import release

PATIENT = DatabaseSettings(acquire_seconds=30, statement_seconds=30)
"""A machine on which several workers test answers late now and then: no reason for a 503."""


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
class TestApp:
    """A running application in this process, and callers for it."""

    __test__ = False  # pytest takes it for a test class

    runtime: Runtime
    asgi: Any
    transport: httpx.ASGITransport
    pages: Site

    def client(self, secret: str | None = None) -> httpx.AsyncClient:
        """An HTTP client that comes in through the boundary."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(transport=self.transport, base_url="http://localhost", headers=headers)

    async def who(self, name: str = "someone", *, funds: str | None = None, **grant: Any) -> Caller:
        """A new caller; with `funds` its account has play money."""
        identity = self.runtime.identity
        account = await identity.create_account(self.runtime.operator, f"{name}-{uuid.uuid4().hex[:12]}")
        issued = await identity.issue(account=account.id, kind="live", name="test", **grant)
        if funds is not None:
            trading = self.runtime.wired.services["trading"]
            await trading.deposits.deposit(self.runtime.operator, account.id, parse(funds), "test", IdempotencyKey.NONE)
        return Caller(await identity.authenticate(issued.secret), issued.secret, self.client(issued.secret))

    async def admin(self) -> Caller:
        """The operator."""
        secret = (self.runtime.settings.state_dir / "admin.key").read_text().strip()
        return Caller(self.runtime.operator, secret, self.client(secret))

    def service(self, name: str) -> Any:
        """A module's service."""
        return self.runtime.wired.services[name]


@asynccontextmanager
async def running_app(
    target: Target, state_dir: Path, *, modules: Sequence[Module] = MODULES, **settings: Any
) -> AsyncIterator[TestApp]:
    """Build and run everything over one database, until the block ends."""
    made = Settings(state_dir=state_dir, **{"database": PATIENT, **settings})
    with migrated_already(target):
        runtime = await build(made, modules, owner=target)
    metrics = Metrics(this_build(), loop_lag=runtime.platform.loop_lag)
    pages = Site(runtime.sessions, runtime.platform.draining)
    inner = litestar(runtime, this_build(), metrics, pages)
    app = asgi_app(inner, runtime, metrics, pages)
    async with inner.lifespan():
        yield TestApp(runtime, app, httpx.ASGITransport(app=cast(Any, app)), pages)
    release(inner)


def fresh(prefix: str) -> str:
    """An id that nothing has."""
    return new_id(prefix)

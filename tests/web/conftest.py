"""An app in this process with people in it: a buyer, a miner's owner, an operator; one for all tests of a file."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.sessions import form_token
from aitbc.modules.governance.service import GovernanceSettings
from aitbc.modules.monitoring.service import MonitoringSettings
from tests.app import Caller, TestApp, running_app
from tests.journeys.hand_miner import HandMiner
from tests.web.stock import EMPTY, Stock, stocked

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@dataclass
class Person:
    """Somebody at a browser, without scripts: pages are read, and forms are sent."""

    caller: Caller
    browser: httpx.AsyncClient

    @property
    def csrf(self) -> str:
        """What the forms of this session carry."""
        [token] = self.browser.cookies.values()
        return form_token(token)

    async def get(self, path: str) -> httpx.Response:
        """Open a page."""
        return await self.browser.get(path)

    async def send(self, path: str, **fields: str) -> httpx.Response:
        """Send a form of this session."""
        return await self.browser.post(path, data={"csrf": self.csrf, **fields})


@dataclass
class Market:
    """The app, its people, and a miner that does embeddings by hand."""

    app: TestApp
    buyer: Person
    owner: Person
    operator: Person
    miner: HandMiner
    stock: Stock

    async def paid_job(self) -> dict[str, object]:
        """A job of the buyer's, done and paid."""
        body = {"kind": "embed", "input": {"texts": ["one", "two", "three"]}, "max_price": "0.05"}
        job = (await self.buyer.caller.post("/api/v1/ai/jobs", body)).json()
        [lease] = await self.miner.poll(wait=10)
        answer = await self.miner.deliver(lease)
        assert answer.status_code == 200, answer.text
        return dict((await self.buyer.caller.get(f"/api/v1/ai/jobs/{job['id']}")).json())


async def person(app: TestApp, caller: Caller) -> Person:
    """Somebody who has signed in."""
    browser = app.client()
    browser.headers.update(BROWSER)
    answer = await browser.post("/sign-in", data={"code": caller.secret, "next": "/"})
    assert answer.status_code == 303, answer.text
    return Person(caller, browser)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a whole file, so that its tests can share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def market(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], Target],
    anyio_backend: str,
) -> AsyncIterator[Market]:
    """A market with one paid job in a block, and one of everything else unless the file says `STOCKED = False`."""
    soon = {"general": 1, "parameters": 1}
    tables = {"governance": GovernanceSettings(delay_seconds=soon), "monitoring": MonitoringSettings(status_page=True)}
    async with running_app(new_database(), tmp_path_factory.mktemp("state"), tables=tables) as app:
        buyer, owner = await app.who("buyer", funds="300"), await app.who("owner")
        miner = await HandMiner.enrol(app, owner, gpus=("NVIDIA H100 80GB HBM3",))
        await miner.beat()
        made = Market(
            app,
            await person(app, buyer),
            await person(app, owner),
            await person(app, await app.admin()),
            miner,
            await stocked(app, buyer, owner) if getattr(request.module, "STOCKED", True) else EMPTY,
        )
        await made.paid_job()
        await app.service("trading").seal()
        yield made

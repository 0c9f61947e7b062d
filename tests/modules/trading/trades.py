"""Two traders and the operator on a ledger, over HTTP: what each asks is one line of a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.trading.service import TradingService
from tests.modules.trading.make import ADMIN, AITBC, person, require_sound, trading_on
from tests.modules.trading.test_routes import app_for

OFFER = {"trade_type": "compute_resources", "title": "An H100", "price": "10", "specifications": {"vram_gb": 80}}
REQUEST = {
    "trade_type": "compute_resources",
    "title": "A night of training",
    "budget_max": "20",
    "specifications": {"vram_gb": 80},
}


class Market:
    """A buyer with money, a seller, a stranger with money, and the operator."""

    def __init__(self, trading: TradingService, people: dict[str, Principal], client: httpx.AsyncClient) -> None:
        self.trading = trading
        self.people = people
        self.client = client

    async def post(self, who: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The answer to a command, which must have this status."""
        answer = await self.client.post(path, json=body, headers={"x-who": who})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def refused(self, who: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and code of a refused command."""
        answer = await self.client.post(path, json=body, headers={"x-who": who})
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["code"]

    async def get(self, who: str, path: str, *, status: int = 200, **query: Any) -> Any:
        """The answer to a look, which must have this status."""
        answer = await self.client.get(path, params=query, headers={"x-who": who})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def owned(self, who: str) -> tuple[int, int]:
        """What somebody has: available and held, in minor units."""
        balance = await self.trading.balance(self.people[who].account)
        return balance.available_units, balance.held_units

    async def match(self, **wishes: Any) -> dict[str, Any]:
        """An offer of the seller's that was matched with a request of the buyer's."""
        await self.post("seller", "/offers", OFFER | wishes.pop("offer", {}), status=201)
        request = await self.post("buyer", "/requests", REQUEST | wishes, status=201)
        found = (await self.post("buyer", f"/requests/{request['id']}/matches"))["data"]
        best: dict[str, Any] = found[0]
        return best

    async def agree(self, terms: dict[str, Any], **wishes: Any) -> dict[str, Any]:
        """An agreement on such a match."""
        match = await self.match(**wishes)
        agreement: dict[str, Any] = await self.post("buyer", f"/matches/{match['id']}/accept", terms, status=201)
        return agreement

    async def settle(self, terms: dict[str, Any], **wishes: Any) -> dict[str, Any]:
        """A settlement of such an agreement."""
        agreement = await self.agree(terms, **wishes)
        path = f"/agreements/{agreement['id']}/settlement"
        settlement: dict[str, Any] = await self.post("buyer", path, status=201)
        return settlement


@asynccontextmanager
async def a_market(owner: Target, *, funds: int = 100 * AITBC) -> AsyncIterator[Market]:
    """A market of people of its own; at its end the ledger is sound."""
    people = {"buyer": person(), "seller": person(), "stranger": person(), "admin": ADMIN}
    async with trading_on(owner) as trading:
        for name in ("buyer", "stranger"):
            await trading.deposits.deposit(ADMIN, people[name].account, funds, None, IdempotencyKey.NONE)
        app: Any = app_for(trading, people)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1/trading") as client:
            yield Market(trading, people, client)
        await require_sound(trading)

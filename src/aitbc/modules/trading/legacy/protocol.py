"""Trade between agents: every path of it answers honestly that it comes with the marketplace module."""

from litestar import Controller, get, post
from litestar.params import FromPath, QueryParams

from aitbc.modules.trading.legacy.shapes import later

LOOK = {"permission": "chain:read"}
ACT = {"permission": "ledger:read", "idempotency": "natural"}  # nothing is done, so nothing is done twice
LISTS = ("requests", "matches", "agreements", "negotiations")


class ProtocolController(Controller):
    """Requests, matches, agreements, settlements."""

    @get([f"/v1/trading/{name}" for name in (*LISTS, "analytics")] + ["/v1/transactions"], opt=LOOK)
    async def listed(self, query: QueryParams) -> None:
        """Refused."""
        raise later()

    @get([f"/v1/trading/{name}/{{id:str}}" for name in LISTS], opt=LOOK)
    async def one(self, id: FromPath[str]) -> None:  # noqa: A002 - the path's own name
        """Refused."""
        raise later()

    @post(
        [f"/v1/trading/{name}" for name in (*LISTS, "simulate-match")] + ["/v1/transactions"],
        status_code=200,
        opt=ACT,
    )
    async def made(self) -> None:
        """Refused."""
        raise later()


class CoordinatorProtocol(Controller):
    """The same under the coordinator, which had two paths more."""

    @get([f"/v1/trading/{name}" for name in (*LISTS, "analytics")], opt=LOOK)
    async def listed(self, query: QueryParams) -> None:
        """Refused."""
        raise later()

    @get([f"/v1/trading/{name}/{{id:str}}" for name in LISTS], opt=LOOK)
    async def one(self, id: FromPath[str]) -> None:  # noqa: A002 - the path's own name
        """Refused."""
        raise later()

    @get(["/v1/trading/requests/{id:str}/matches", "/v1/trading/agents/{id:str}/summary"], opt=LOOK)
    async def of_one(self, id: FromPath[str]) -> None:  # noqa: A002 - the path's own name
        """Refused."""
        raise later()

    @post([f"/v1/trading/{name}" for name in (*LISTS, "simulate-match")], status_code=200, opt=ACT)
    async def made(self) -> None:
        """Refused."""
        raise later()

    @post("/v1/trading/requests/{id:str}/matches", status_code=200, opt=ACT)
    async def made_of_one(self, id: FromPath[str]) -> None:  # noqa: A002 - the path's own name
        """Refused."""
        raise later()

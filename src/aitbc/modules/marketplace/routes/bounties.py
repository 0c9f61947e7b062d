"""The HTTP of bounties."""

from typing import Annotated, Literal

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.marketplace.models.bounties import MarketBounty
from aitbc.modules.marketplace.service.bounties import Bounties

LIST = "market_bounties"
InState = Annotated[Literal["asked", "open", "paying", "paid", "withdrawn"] | None, QueryParameter(name="state")]


class MarketBountyController(Controller):
    """What the first miner gets that serves a model which jobs wait for."""

    path = "/bounties"
    tags = ("market",)

    @get(
        "/",
        operation_id="list_market_bounties",
        summary="List bounties",
        opt={"permission": "market:read", "errors": (InvalidCursor,)},
    )
    async def bounties(
        self,
        market_bounties: NamedDependency[Bounties],
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketBounty]:
        """List what was or is paid for serving models that nobody served, from the newest on.

        An open one is paid once, to the owner of the miner that does the first of the jobs that wait for its model.
        """
        bound = (in_state or "",)
        after = after_id(LIST, cursor, "bnty", bound_to=bound)
        found = await market_bounties.page(in_state, after, limit + 1)
        return Page.of(LIST, found, limit, lambda one: one.id, bound_to=bound)

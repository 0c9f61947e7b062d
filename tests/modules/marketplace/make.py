"""Builders for the tests of marketplace: what is put on sale, and how it is changed."""

from typing import Any

import httpx

from aitbc.modules.marketplace.service import MarketplaceService
from tests.app import Caller
from tests.chaos.audit import NOTHING
from tests.modules.gpu.make import Fleet

MARKET = "/api/v1/marketplace"
OFFERS = f"{MARKET}/offers"
PATIENCE = 30.0
"""How long something that happens by an event is waited for, in seconds."""


def market_of(fleet: Fleet) -> MarketplaceService:
    """The service itself."""
    service = fleet.stage.service("marketplace")
    assert isinstance(service, MarketplaceService)
    return service


async def made(who: Caller, **body: Any) -> dict[str, Any]:
    """An offer that is taken by the market."""
    answer = await who.post(OFFERS, body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def changed(who: Caller, offer: dict[str, Any], once: str | None = None, **body: Any) -> httpx.Response:
    """The answer to a change of an offer as it was seen."""
    return await who.post(f"{OFFERS}/{offer['id']}/change", {"version": offer["version"], **body}, once=once)


async def audited(fleet: Fleet) -> None:
    """What the audit of the torture tests asks of marketplace's money."""
    for name, query in NOTHING.items():
        if "marketplace." in query or "gpu.bookings" in query:
            assert await fleet.sql(query) == [], name

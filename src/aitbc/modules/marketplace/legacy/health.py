"""Health, readiness and status of the service."""

from litestar import Response, get

from aitbc.kernel.legacy.health import OPEN, Health, LiveController, readiness
from aitbc.modules.marketplace.legacy.caller import Marketplace


class LegacyHealth(LiveController):
    """Open to everybody, with nothing about anybody in it."""

    service = "marketplace-service"

    @get("/ready", opt=OPEN)
    async def ready(self, marketplace: Marketplace) -> Response[Health]:
        """Whether its database answers."""
        return await readiness(self.service, marketplace.market_items.count())

    @get("/marketplace/status", opt=OPEN)
    async def status(self, marketplace: Marketplace) -> Health:
        """How many items are for sale."""
        count = await marketplace.market_items.count()
        return Health(
            status="operational",
            service=self.service,
            message=f"Marketplace service is running; {count} items are for sale",
        )

"""Health, readiness and status of the service."""

from litestar import Response, get

from aitbc.kernel.legacy.health import OPEN, Health, LiveController, readiness
from aitbc.modules.trading.legacy.caller import Trading


class LegacyHealth(LiveController):
    """Open to everybody, with nothing about anybody in it."""

    service = "trading-service"

    @get("/ready", opt=OPEN)
    async def ready(self, trading: Trading) -> Response[Health]:
        """Whether its database answers."""
        return await readiness(self.service, trading.explorer.height())

    @get("/trading/status", opt=OPEN)
    async def status(self, trading: Trading) -> Health:
        """How far the chain has come."""
        height = await trading.explorer.height()
        head = "no block is sealed yet" if height is None else f"the chain's head is block {height}"
        return Health(status="operational", service=self.service, message=f"Trading service is running; {head}")

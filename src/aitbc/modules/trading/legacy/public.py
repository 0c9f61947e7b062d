"""Whether the service is there, as those who watched the one before asked."""

from litestar import Response, get
from litestar.di import NamedDependency

from aitbc.kernel.legacy.health import OPEN, Health, LiveController
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.trading.legacy.shapes import SERVICE
from aitbc.modules.trading.service import TradingService


class PublicController(LiveController):
    """Open to everybody, and telling nothing of anybody."""

    service = SERVICE

    @get("/ready", opt=OPEN)
    async def ready(self, trading: NamedDependency[TradingService]) -> Response[Health]:
        """Whether its database answers."""
        try:
            await trading.explorer.height()
        except AppError as error:
            return Response(Health(status="not_ready", service=SERVICE, error=error.message), status_code=503)
        return Response(Health(status="ready", service=SERVICE))

    @get("/trading/status", opt=OPEN)
    async def status(self, trading: NamedDependency[TradingService]) -> Health:
        """How far the chain has come."""
        height = await trading.explorer.height()
        told = "no block is sealed yet" if height is None else f"the chain's head is block {height}"
        return Health(status="operational", service=SERVICE, message=f"Trading service is running; {told}")

"""Whether the service is there, as those who watched the one before asked."""

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from aitbc.kernel.auth import PUBLIC
from aitbc.kernel.errors import AppError
from aitbc.modules.trading.legacy.shapes import SERVICE
from aitbc.modules.trading.service import TradingService

OPEN = {"permission": PUBLIC}


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the service is."""

    status: str
    service: str
    error: str | None = None
    message: str | None = None


class PublicController(Controller):
    """Open to everybody, and telling nothing of anybody."""

    @get("/health", opt=OPEN)
    async def health(self) -> Standing:
        """Whether it runs."""
        return Standing(status="healthy", service=SERVICE)

    @get("/live", opt=OPEN)
    async def live(self) -> Standing:
        """Whether it runs."""
        return Standing(status="alive", service=SERVICE)

    @get("/ready", opt=OPEN)
    async def ready(self, trading: NamedDependency[TradingService]) -> Response[Standing]:
        """Whether its database answers."""
        try:
            await trading.explorer.height()
        except AppError as error:
            return Response(Standing(status="not_ready", service=SERVICE, error=error.message), status_code=503)
        return Response(Standing(status="ready", service=SERVICE))

    @get("/trading/status", opt=OPEN)
    async def status(self, trading: NamedDependency[TradingService]) -> Standing:
        """How far the chain has come."""
        height = await trading.explorer.height()
        told = "no block is sealed yet" if height is None else f"the chain's head is block {height}"
        return Standing(status="operational", service=SERVICE, message=f"Trading service is running; {told}")

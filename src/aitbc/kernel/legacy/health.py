"""Health and readiness of a service, at the paths where legacy clients poll them."""

from collections.abc import Awaitable

from litestar import Controller, Response, get
from msgspec import Struct

from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import AppError

OPEN = {"permission": PUBLIC}


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a service is."""

    status: str
    service: str
    error: str | None = None
    message: str | None = None


class HealthController(Controller):
    """`/health`, open to everybody; a module's own controller adds what it knows of itself."""

    service: str
    """The legacy name of the service."""

    @get("/health", opt=OPEN)
    async def health(self) -> Health:
        """Whether the process runs."""
        return Health(status="healthy", service=self.service)


class LiveController(HealthController):
    """The same for services that also have `/live`."""

    @get("/live", opt=OPEN)
    async def live(self) -> Health:
        """Whether the process runs."""
        return Health(status="alive", service=self.service)


async def readiness(service: str, probe: Awaitable[object]) -> Response[Health]:
    """Whether the service's database answers: 503 with the error when `probe`, a read of it, fails."""
    try:
        await probe
    except AppError as error:
        return Response(Health(status="not_ready", service=service, error=error.message), status_code=503)
    return Response(Health(status="ready", service=service))

"""What the legacy gateway answers itself: its health, the services that it knows, and the coordinator's health."""

from typing import Any

from litestar import Controller, Request, Response, get
from msgspec import Struct

from aitbc.kernel.identity.principal import PUBLIC
from aitbc.server.admin.health import RETRY_SECONDS, health_of
from aitbc.server.config.placement import LEGACY_COORDINATOR_PREFIX


class GatewayAlive(Struct, frozen=True):
    """The gateway answers."""

    status: str = "healthy"
    service: str = "api-gateway"


class Service(Struct, frozen=True):
    """What the legacy gateway calls a service: here a module behind the same address, wherever it runs."""

    prefix: str
    url: str
    """As the caller reaches it; addresses inside of the installation are nobody's business."""


class CoordinatorHealth(Struct, frozen=True):
    """How the process is that answers in the legacy coordinator's place."""

    status: str
    service: str = "coordinator-api"


class CoordinatorHealthRoutes(Controller):
    """The health of the legacy coordinator, whose paths the modules of this process answer."""

    path = f"/{LEGACY_COORDINATOR_PREFIX}"
    include_in_schema = False

    @get(["/health", "/v1/health", "/healthz"], operation_id="get_coordinator_health", opt={"permission": PUBLIC})
    async def health(self) -> CoordinatorHealth:
        """Does the process answer?"""
        return CoordinatorHealth("ok")

    @get("/health/live", operation_id="get_coordinator_liveness", opt={"permission": PUBLIC})
    async def live(self) -> CoordinatorHealth:
        """Is the process alive?"""
        return CoordinatorHealth("alive")

    @get("/health/ready", operation_id="get_coordinator_readiness", opt={"permission": PUBLIC})
    async def ready(self, request: Request[Any, Any, Any]) -> Response[CoordinatorHealth]:
        """Would requests be served now?"""
        if (await health_of(request).readiness(detailed=False)).ready:
            return Response(CoordinatorHealth("ready"))
        return Response(CoordinatorHealth("not ready"), status_code=503, headers={"Retry-After": str(RETRY_SECONDS)})


def gateway_routes(prefixes: dict[str, str]) -> type[Controller]:
    """The controller; `prefixes` are the legacy ones by the service's legacy name."""

    class GatewayController(Controller):
        """The gateway itself."""

        include_in_schema = False

        @get("/health", operation_id="get_gateway_health", opt={"permission": PUBLIC})
        async def health(self) -> GatewayAlive:
            """Is the gateway alive?"""
            return GatewayAlive()

        @get("/services", operation_id="list_gateway_services", opt={"permission": PUBLIC})
        async def services(self, request: Request[Any, Any, Any]) -> dict[str, Service]:
            """List the services behind the legacy prefixes, by name."""
            base = f"{request.scope['scheme']}://{request.headers['host']}"
            return {name: Service(prefix, base + prefix) for name, prefix in prefixes.items()}

    return GatewayController

"""The legacy gateway's own two endpoints: its health, and the services that it knows."""

from typing import Any

from litestar import Controller, Request, get
from msgspec import Struct

from aitbc.kernel.identity.principal import PUBLIC


class GatewayAlive(Struct, frozen=True):
    """The gateway answers."""

    status: str = "healthy"
    service: str = "api-gateway"


class Service(Struct, frozen=True):
    """What the legacy gateway calls a service: here a module behind the same address, wherever it runs."""

    prefix: str
    url: str
    """As the caller reaches it; addresses inside of the installation are nobody's business."""


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

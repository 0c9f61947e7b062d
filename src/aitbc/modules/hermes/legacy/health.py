"""Health of the service that hermes replaces."""

from litestar import get
from msgspec import Struct

from aitbc.kernel.legacy.health import OPEN, HealthController
from aitbc.kernel.primitives.version import this_build


class Operational(Struct, frozen=True, kw_only=True):
    """That the service runs, and which version."""

    service: str
    version: str
    status: str


class LegacyHealth(HealthController):
    """Open to everybody, with nothing about anybody in it."""

    service = "hermes-service"

    @get("/", opt=OPEN)
    async def root(self) -> Operational:
        """That it runs."""
        return Operational(service="AITBC Hermes Service", version=this_build().version, status="operational")

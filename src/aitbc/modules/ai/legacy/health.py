"""Health of the service and of what it replaced, open to everybody, with nothing about anybody in it."""

from datetime import datetime

from litestar import get
from msgspec import Struct

from aitbc.kernel.legacy.health import OPEN, HealthController
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.version import this_build
from aitbc.modules.ai.legacy.media import MEDIA, MODALITIES, OPTIMIZED
from aitbc.modules.ai.legacy.shapes import SERVICE
from aitbc.modules.ai.models.kinds.registry import KINDS


class Root(Struct, frozen=True, kw_only=True):
    """What this is."""

    service: str
    version: str
    status: str


class MediaHealth(Struct, frozen=True, kw_only=True):
    """Which media there is a kind of work for."""

    status: str
    service: str
    timestamp: datetime
    capabilities: dict[str, bool]


class LegacyHealth(HealthController):
    """The service, its media and its optimisation."""

    service = SERVICE

    @get("/", opt=OPEN)
    async def root(self) -> Root:
        """What this is."""
        return Root(service="AITBC AI Service", version=this_build().version, status="operational")

    @get("/multimodal/health", opt=OPEN)
    async def media(self) -> MediaHealth:
        """Which media there is a kind of work for."""
        found = {f"{medium}_processing": MODALITIES.get(medium) in KINDS for medium in MEDIA}
        return MediaHealth(status="healthy", service="multimodal-agent", timestamp=now(), capabilities=found)

    @get("/optimization/health", opt=OPEN)
    async def optimization(self) -> MediaHealth:
        """Nothing is optimised yet."""
        found = {f"{medium}_optimization": False for medium in OPTIMIZED}
        return MediaHealth(status="healthy", service="modality-optimization", timestamp=now(), capabilities=found)

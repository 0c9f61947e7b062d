"""Whether the service is there, as those who watched the one before asked."""

from litestar import Response, get
from litestar.di import NamedDependency

from aitbc.kernel.legacy.health import OPEN, Health, LiveController
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.gpu.legacy.shapes import SERVICE
from aitbc.modules.gpu.service import GpuService


class PublicController(LiveController):
    """Open to everybody, and telling nothing of anybody."""

    service = SERVICE

    @get("/ready", opt=OPEN)
    async def ready(self, gpu: NamedDependency[GpuService]) -> Response[Health]:
        """Whether its database answers."""
        try:
            await gpu.miners.counts()
        except AppError as error:
            return Response(Health(status="not_ready", service=SERVICE, error=error.message), status_code=503)
        return Response(Health(status="ready", service=SERVICE))

    @get("/gpu/status", opt=OPEN)
    async def status(self, gpu: NamedDependency[GpuService]) -> Health:
        """How many miners there are, and how many of them are there now."""
        counts = await gpu.miners.counts()
        message = f"GPU service is running; {counts.online} of {counts.known} miners are online"
        return Health(status="operational", service=SERVICE, message=message)

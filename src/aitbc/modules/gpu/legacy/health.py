"""Health, readiness and status of the service."""

from litestar import Response, get

from aitbc.kernel.legacy.health import OPEN, Health, LiveController, readiness
from aitbc.modules.gpu.legacy.caller import Gpu


class LegacyHealth(LiveController):
    """Open to everybody, with nothing about anybody in it."""

    service = "gpu-service"

    @get("/ready", opt=OPEN)
    async def ready(self, gpu: Gpu) -> Response[Health]:
        """Whether its database answers."""
        return await readiness(self.service, gpu.miners.counts())

    @get("/gpu/status", opt=OPEN)
    async def status(self, gpu: Gpu) -> Health:
        """How many miners there are, and how many of them are online."""
        counts = await gpu.miners.counts()
        message = f"GPU service is running; {counts.online} of {counts.known} miners are online"
        return Health(status="operational", service=self.service, message=message)

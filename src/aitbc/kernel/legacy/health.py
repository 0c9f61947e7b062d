"""Whether a service is there, as those who watched the ones before asked each of them."""

from litestar import Controller, get
from msgspec import Struct

from aitbc.kernel.identity.principal import PUBLIC

OPEN = {"permission": PUBLIC}


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a service is."""

    status: str
    service: str
    error: str | None = None
    message: str | None = None


class StandingController(Controller):
    """Open to everybody, and telling nothing of anybody; a module's own adds what it knows of itself."""

    service: str
    """The older name of the service."""

    @get("/health", opt=OPEN)
    async def health(self) -> Standing:
        """Whether it runs."""
        return Standing(status="healthy", service=self.service)


class LiveController(StandingController):
    """The same for services that were also asked whether they live."""

    @get("/live", opt=OPEN)
    async def live(self) -> Standing:
        """Whether it runs."""
        return Standing(status="alive", service=self.service)

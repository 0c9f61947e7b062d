"""What these protocols have and no miner offers yet: an honest 501 in the caller's dialect."""

from typing import NoReturn

from litestar import Controller, route
from litestar.di import NamedDependency

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.protocols.errors import NotOffered

OPT = {"permission": "jobs:create", "idempotency": "natural"}
PATHS = (
    *("/moderations", "/rerank"),
    *("/images/generations", "/images/edits", "/images/variations"),
    *("/audio/transcriptions", "/audio/translations", "/audio/speech"),
)


class NotOfferedYet(Controller):
    """Moderations, pictures, sound, ranking, and what is still to be built."""

    path = "/v1"
    include_in_schema = False

    @route(list(PATHS), http_method=["POST"], opt=OPT, status_code=501)
    async def refuse(self, who: NamedDependency[Principal]) -> None:
        """Say that it cannot be done yet."""
        _refuse(who)


def _refuse(_who: Principal) -> NoReturn:
    raise NotOffered

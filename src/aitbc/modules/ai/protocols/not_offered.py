"""What these protocols have and no miner offers yet: an honest 501 in the caller's dialect."""

from typing import NoReturn

from litestar import Controller, route
from litestar.di import NamedDependency

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.protocols.errors import NotOffered

OPT = {"permission": "jobs:create", "idempotency": "natural"}
FORM_BYTES_MAX = 32 * 1024 * 1024
"""What a form with a picture or sound may have, so that it is refused for the right reason."""
PATHS = ("/moderations", "/images/generations", "/audio/speech")
FORMS = ("/images/edits", "/images/variations", "/audio/transcriptions", "/audio/translations")
"""Where clients send forms."""


class NotOfferedYet(Controller):
    """Moderations, pictures and sound."""

    path = "/v1"
    include_in_schema = False

    @route(list(PATHS), http_method=["POST"], opt=OPT, status_code=501)
    async def refuse(self, who: NamedDependency[Principal]) -> None:
        """Say that it cannot be done yet."""
        _refuse(who)

    @route(
        list(FORMS), http_method=["POST"], opt=OPT | {"raw_body_bytes": FORM_BYTES_MAX, "lasts": True}, status_code=501
    )
    async def refuse_form(self, who: NamedDependency[Principal]) -> None:
        """Say that it cannot be done yet."""
        _refuse(who)


def _refuse(_who: Principal) -> NoReturn:
    raise NotOffered

"""`/.well-known/security.txt` (RFC 9116): whom to write to about a weakness of this installation."""

from datetime import timedelta

from litestar import Controller, Response, get

from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import NotFound

PATH = "/.well-known/security.txt"
VALID_FOR = timedelta(days=90)
NO_CONTACT = "The operator of this server has named no contact; the setting is server.security_contact."


def security_routes(contact: str | None) -> type[Controller]:
    """The controller; without a contact there is no such file."""

    class SecurityController(Controller):
        """Where weaknesses are reported."""

        include_in_schema = False

        @get(PATH, operation_id="get_security_contact", media_type="text/plain", opt={"permission": PUBLIC})
        async def security_txt(self) -> Response[str]:
            """Say whom to write to about a weakness."""
            if contact is None:
                raise NotFound(NO_CONTACT)
            expires = f"{now() + VALID_FOR:%Y-%m-%dT00:00:00Z}"
            text = f"Contact: {contact}\nExpires: {expires}\nPreferred-Languages: en\n"
            return Response(text, media_type="text/plain")

    return SecurityController

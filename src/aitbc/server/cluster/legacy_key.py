"""The key of the legacy gateway: required at legacy paths on the gateway's port, off by default.

`API_GATEWAY_REQUIRE_AUTH=true` turns it on, and `API_GATEWAY_KEY` is what callers send as `Authorization: Bearer …`. It
opens the gateway and nothing behind it: who the caller is, and what they may do, says their own key in `X-Api-Key`.
"""

import hmac
from typing import Any

from aitbc.kernel.primitives.errors import AppError, Forbidden, Unauthenticated
from aitbc.server.config.settings import GatewaySettings


class GatewayKeyNeeded(Unauthenticated):
    """This gateway asks for its key: send it as `Authorization: Bearer …`, and your own as `X-Api-Key`."""

    code = "gateway_key_needed"


class GatewayKeyWrong(Forbidden):
    """This is not the key of this gateway."""

    code = "gateway_key_wrong"


class GatewayKeyUnset(AppError):
    """This gateway asks for a key and was given none: its operator must set `gateway.auth_key`."""

    code = "gateway_key_unset"


class GatewayKey:
    """Checks the legacy gateway key of callers of legacy paths."""

    def __init__(self, key: str | None) -> None:
        self._key = key.encode() if key is not None else None

    @classmethod
    def of(cls, settings: GatewaySettings) -> "GatewayKey | None":
        """None where nothing is asked for."""
        if not settings.require_auth:
            return None
        return cls(settings.auth_key.reveal() if settings.auth_key is not None else None)

    @property
    def is_set(self) -> bool:
        """Whether anybody can show it."""
        return self._key is not None

    def seen(self, scope: Any) -> Any:
        """The request without the key it showed. Raises `GatewayKeyNeeded`, `GatewayKeyWrong`, `GatewayKeyUnset`."""
        if self._key is None:
            raise GatewayKeyUnset
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = (shown[0] if len(shown) == 1 else b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise GatewayKeyNeeded
        if not hmac.compare_digest(key, self._key):
            raise GatewayKeyWrong
        return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"authorization"]}

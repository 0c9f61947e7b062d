"""Secrets at rest: what the server must use again is kept sealed, under a key that is derived from the installation's secret."""

import hashlib
import hmac

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox


class Unsealable(Exception):
    """This was not sealed here, or not under the installation's present secret."""


class Sealer:
    """Closes and opens secrets of one purpose; what was closed for another purpose does not open."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._box = SecretBox(hmac.digest(secret, f"seal: {purpose}".encode(), hashlib.sha256))

    def seal(self, content: bytes) -> bytes:
        """The content, sealed (XSalsa20 and Poly1305): nobody reads or changes it without the installation's secret."""
        return bytes(self._box.encrypt(content))

    def unseal(self, sealed: bytes) -> bytes:
        """What was sealed. Raises `Unsealable`."""
        try:
            return self._box.decrypt(sealed)
        except (CryptoError, ValueError) as error:
            raise Unsealable from error

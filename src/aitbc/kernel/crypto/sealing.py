"""Encrypt secrets at rest, with a key derived from the installation's secret."""

import hashlib
import hmac

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox


class Unsealable(Exception):
    """The value was not sealed for this purpose, or not with the installation's present secret."""


class Sealer:
    """Seals and unseals secrets of one purpose; a value sealed for another purpose cannot be unsealed."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._box = SecretBox(hmac.digest(secret, f"seal: {purpose}".encode(), hashlib.sha256))

    def seal(self, content: bytes) -> bytes:
        """Encrypt and authenticate (XSalsa20-Poly1305); unreadable without the installation's secret."""
        return bytes(self._box.encrypt(content))

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt what `seal` returned. Raises `Unsealable`."""
        try:
            return self._box.decrypt(sealed)
        except (CryptoError, ValueError) as error:
            raise Unsealable from error

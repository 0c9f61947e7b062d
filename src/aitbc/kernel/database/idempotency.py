"""Idempotency keys: a repeated request with the same key gets the stored answer, and nothing is done twice."""

import hashlib
from datetime import timedelta
from typing import ClassVar

from msgspec import Struct

from aitbc.kernel.primitives.errors import Conflict, Invalid

KEPT_FOR = timedelta(hours=24)
"""How long an answer is stored; after this its key may be used for another request."""
KEY_LENGTH_MAX = 255


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key was used before with a different request."""

    code = "idempotency_key_reused"


class IdempotencyKeyInFlight(Conflict):
    """A request with this Idempotency-Key is being worked on right now; ask again in a moment."""

    code = "idempotency_key_in_flight"


class IdempotencyKeyRequired(Invalid):
    """This request moves money: send an Idempotency-Key header, so that it can be repeated safely."""

    code = "idempotency_key_required"


class IdempotencyKeyMalformed(Invalid):
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""

    code = "idempotency_key_malformed"


class IdempotencyKey(Struct):
    """The Idempotency-Key of one request, with its account and fingerprint; without a key nothing is stored."""

    account: str
    key: str | None = None
    fingerprint: bytes = b""
    """SHA-256 of method, path and body."""
    replayed: bool = False
    """Set when the answer is the stored one of an earlier request; a response header says so."""

    @property
    def digest(self) -> bytes | None:
        """A digest of account, key and request: by it a command finds what the same one began; none without a key."""
        if self.key is None:
            return None
        return hashlib.sha256(f"{self.account}\n{self.key}\n".encode() + self.fingerprint).digest()

    NONE: ClassVar["IdempotencyKey"]


IdempotencyKey.NONE = IdempotencyKey(account="")

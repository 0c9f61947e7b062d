"""Signatures of Standard Webhooks: HMAC-SHA256 over id, timestamp and body, with the endpoint's secret."""

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh secret, in the form that receivers' libraries take."""
    return SECRET_PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def signatures(secrets: Iterable[str], message: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one for each secret, so that a receiver who knows either of two accepts it."""
    signed = f"{message}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets)


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()

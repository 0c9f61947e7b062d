"""Signatures over canonical bytes: canonical JSON, SHA-256, Ed25519.

Canonical JSON here is RFC 8785 over strings, whole numbers below 2**53, booleans, null, lists and objects: keys sorted,
no blanks, UTF-8. Fractions are refused, so that no two languages can print one number differently; amounts are
strings.
"""

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
from nacl.bindings import crypto_sign
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

_SAFE_INTEGER = 2**53
_encoder = msgspec.json.Encoder(order="deterministic")


class NotCanonical(ValueError):
    """This value has no canonical form."""


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value; raises `NotCanonical` for floats, large integers and other types."""
    _require_canonical(value, depth=0)
    return _encoder.encode(value)


def _require_canonical(value: Any, *, depth: int) -> None:
    if depth > 32:
        raise NotCanonical("nested deeper than 32 levels")
    match value:
        case None | bool() | str():
            return
        case int():
            if abs(value) >= _SAFE_INTEGER:
                raise NotCanonical("an integer past 2**53 must be written as a string")
        case dict():
            for key, item in value.items():
                if type(key) is not str or not key.isascii():
                    raise NotCanonical("keys are ASCII strings")
                _require_canonical(item, depth=depth + 1)
        case list() | tuple():
            for item in value:
                _require_canonical(item, depth=depth + 1)
        case _:
            raise NotCanonical(f"{type(value).__name__} has no canonical form")


def digest(data: bytes) -> str:
    """SHA-256 as `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def work_statement(
    *,
    job: str,
    attempt: str,
    token: int,
    miner: str,
    kind: str,
    input_digest: str,
    output_digest: str,
) -> dict[str, str | int]:
    """The statement that a miner signs, as canonical JSON, with a result: output, input and lease belong together."""
    return {
        "attempt": attempt,
        "input_digest": input_digest,
        "job": job,
        "kind": kind,
        "miner": miner,
        "output_digest": output_digest,
        "statement": "aitbc.work.v1",
        "token": token,
    }


def enrolment_statement(*, token: str, public_key: str) -> dict[str, str]:
    """The statement that a miner signs, as canonical JSON, to enrol: it holds the private key of this public key."""
    return {"public_key": public_key, "statement": "aitbc.enrolment.v1", "token": token}


class Key:
    """An Ed25519 private key with its public key."""

    def __init__(self, seed: bytes) -> None:
        key = SigningKey(seed)
        public = bytes(key.verify_key)
        self._secret = seed + public
        self.public = encode_bytes(public)
        """The public key: 43 characters of url-safe base 64."""

    @staticmethod
    def generate() -> "Key":
        """A new key from the system's random source."""
        return Key(bytes(SigningKey.generate()))

    @staticmethod
    def load(path: Path, *, create: bool = False) -> "Key":
        """The key in a 0600 file of 64 hexadecimal digits; made on the first use when `create` is set."""
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = bytes(SigningKey.generate()).hex()
            temporary = path.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(fresh + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        if path.stat().st_mode & 0o077:
            raise PermissionError(f"{path} can be read by others; run: chmod 600 {path}")
        return Key(bytes.fromhex(path.read_text().strip()))

    def sign(self, data: bytes) -> str:
        """The signature: 86 characters of url-safe base 64."""
        return encode_bytes(crypto_sign(data, self._secret)[:64])

    def __repr__(self) -> str:
        return f"Key(public={self.public!r})"


def sign_claims(claims: msgspec.Struct, key: Key) -> str:
    """The signature over all that these say, as canonical JSON."""
    return key.sign(canonical(msgspec.to_builtins(claims)))


def key_fingerprint(public: str) -> str:
    """The fingerprint that people compare: the digest of the key's 32 bytes. Raises `ValueError` for another length."""
    data = decode_bytes(public)
    if len(data) != 32:
        raise ValueError("an Ed25519 public key has 32 bytes")
    return digest(data)


def verify(public: str, data: bytes, signature: str) -> bool:
    """Whether the signature over the data was made by the owner of the public key; malformed input is simply false."""
    try:
        VerifyKey(decode_bytes(public)).verify(data, decode_bytes(signature))
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def encode_bytes(data: bytes) -> str:
    """Url-safe base 64 without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode_bytes(text: str) -> bytes:
    """The bytes of url-safe base 64 without padding; raises `ValueError` for any other spelling."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode_bytes(data) != text:
        raise ValueError("not canonical base 64")
    return data


def value_digest(value: Any) -> str:
    """The digest of a JSON value that may hold fractions: of its compact form with sorted keys.

    Both sides encode the value again by the same rule, so the digest does not depend on white space or the order of
    keys.
    """
    return digest(_encoder.encode(value))

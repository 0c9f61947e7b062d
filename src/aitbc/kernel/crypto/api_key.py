"""API keys: the kind is readable, a checksum rejects typing errors without a look-up, only a digest is stored."""

import hashlib
import os
import re
import zlib
from typing import Any

KINDS = ("live", "test", "miner", "admin", "hook", "enrol", "session", "link")
"""`enrol` is a token for nothing but the enrolment of one miner, `session` that of a browser's session, and `link`
opens one session, once."""
_TEXT = re.compile(rf"(aitbc_(?:{'|'.join(KINDS)})_)[0-9A-Za-z]{{12,}}".encode())
_BEARER = re.compile(rb"([Bb]earer\s+)(?=[A-Za-z._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{20,}")
_HINTS = (b"aitbc_", b"earer ", b"\\u00")
"""What a text has that may hold a key or a bearer; the last one is how JSON escapes letters of one."""
MASK = b"********"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_LENGTH = 33
CHECK_LENGTH = 6
SECRET_BYTES = 24
VISIBLE_LENGTH = 8
"""How many characters of the body are stored in clear text, so that people can tell their keys apart."""


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _checksum(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), CHECK_LENGTH)


def new_key(kind: str) -> str:
    """A fresh secret: `aitbc_<kind>_`, 33 characters that hold 192 random bits, 6 of checksum."""
    if kind not in KINDS:
        raise ValueError(f"a key is one of {', '.join(KINDS)}, not {kind}")
    head = f"aitbc_{kind}_{_base62(int.from_bytes(os.urandom(SECRET_BYTES)), BODY_LENGTH)}"
    return head + _checksum(head)


def well_formed(key: str) -> bool:
    """Whether kind, alphabet, length and checksum are right: a guessed key fails here, before any look-up."""
    head, check = key[:-CHECK_LENGTH], key[-CHECK_LENGTH:]
    parts = head.split("_")
    if len(parts) != 3 or parts[0] != "aitbc" or parts[1] not in KINDS or len(parts[2]) != BODY_LENGTH:
        return False
    return head.isascii() and parts[2].isalnum() and check == _checksum(head)


def kind_of(key: str) -> str:
    """The kind that a well-formed key names."""
    return key.split("_")[1]


def is_foreign(key: str) -> bool:
    """Whether a text that was sent as an API key is none of ours, whatever became of it on the way."""
    return not key.lstrip().startswith("aitbc_")


def fingerprint(key: str) -> bytes:
    """The digest that is stored and looked up: SHA-256. The secret is random, so a slow password hash adds nothing."""
    return hashlib.sha256(key.encode()).digest()


_WHOLE = re.compile(rf"aitbc_(?:{'|'.join(KINDS)})_[0-9A-Za-z]{{{BODY_LENGTH + CHECK_LENGTH}}}".encode())


def visible(key: str) -> str:
    """The part that may be shown: `aitbc_live_` and eight characters."""
    return key[: key.rindex("_") + 1 + VISIBLE_LENGTH]


def without_keys(text: bytes) -> bytes:
    """The text with every API key in it masked, also a truncated one, and every bearer."""
    return _BEARER.sub(rb"\1" + MASK, _TEXT.sub(rb"\1" + MASK, text))


def may_hold_key(text: bytes) -> bool:
    """Whether a text is worth a closer look; false says that it holds no key, neither plain nor escaped in JSON."""
    return any(hint in text for hint in _HINTS)


def masked(value: Any) -> Any:
    """A text or a JSON value with every key and bearer in it masked, in names too."""
    match value:
        case str():
            plain = value.encode("utf-8", "surrogatepass")
            return without_keys(plain).decode("utf-8", "surrogatepass") if may_hold_key(plain) else value
        case list():
            return [masked(each) for each in value]
        case dict():
            return {masked(name): masked(each) for name, each in value.items()}
    return value


def holds_key(text: str) -> bool:
    """Whether a whole and well-formed API key stands in a text."""
    return "aitbc_" in text and any(well_formed(found[0].decode()) for found in _WHOLE.finditer(text.encode()))

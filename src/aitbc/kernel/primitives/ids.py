"""Identifiers: UUIDv7 in the database, `kind_` and 26 letters everywhere else.

The text form is the TypeID form: a prefix, an underscore and the 128 bits in Crockford's base 32, lower case. It sorts by
the time of creation, selects as one word, and says what it names.
"""

import os
import re
import threading
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from asyncpg.pgproto import pgproto

from aitbc.kernel.primitives.clock import now

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TO_PYTHON = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_well_formed = re.compile(f"[0-7][{ALPHABET}]{{25}}").fullmatch
_PAIRS = [ALPHABET[high] + ALPHABET[low] for high in range(32) for low in range(32)]
_lock = threading.Lock()
_last_stamp = 0
KEPT_MAX = 8192
"""So many ids are remembered in both forms: the same ones are read again and again while a job is at work."""
CHANCE_BYTES = 4096
"""The system is asked for chance so much at a time: each question costs more than all else about an id."""
_chances: list[int] = []
_LETTERS = bytes(ord(ALPHABET[byte & 31]) for byte in range(256))
_requests: list[str] = []
os.register_at_fork(after_in_child=_chances.clear)
os.register_at_fork(after_in_child=_requests.clear)  # two processes must not share what is left


class MalformedId(ValueError):
    """This is not an identifier of the kind that is wanted here."""


def new_uuid() -> UUID:
    """A fresh UUIDv7 (RFC 9562): milliseconds, then 12 bits that keep the order within one millisecond, then chance."""
    global _last_stamp  # noqa: PLW0603
    microseconds = int(now().timestamp() * 1_000_000)
    with _lock:
        stamp = (microseconds // 1000 << 12) | (microseconds % 1000 << 2)
        _last_stamp = stamp = max(stamp, _last_stamp + 1)
        if not _chances:
            _chances.extend(memoryview(os.urandom(CHANCE_BYTES)).cast("Q"))
        random = _chances.pop() & 0x3FFF_FFFF_FFFF_FFFF
    return _uuid((stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random)


def new_id(prefix: str) -> str:
    """A fresh identifier, for instance `job_01hzy…` for the prefix `job`."""
    return encode(prefix, new_uuid())


def new_request_id() -> str:
    """A fresh name for a request, `req_` and 26 letters: chance only, since every request needs one and none is looked up by it."""
    try:
        return _requests.pop()
    except IndexError:
        letters = os.urandom(CHANCE_BYTES).translate(_LETTERS).decode("ascii")
        _requests.extend("req_" + letters[at : at + 26] for at in range(0, CHANCE_BYTES - 25, 26))
        return _requests.pop()


def _uuid(number: int) -> UUID:
    """The driver's own kind of UUID: made, compared and sent in a third of the time that Python's takes."""
    value: UUID = pgproto.UUID(number.to_bytes(16, "big"))
    return value


@lru_cache(maxsize=KEPT_MAX)
def encode(prefix: str, value: UUID) -> str:
    """The text form of a UUID."""
    pairs, number = _PAIRS, value.int
    high, low = number >> 60, number & 0xFFF_FFFF_FFFF_FFFF
    # Written out, since every row has several: a loop over the pairs would take twice as long.
    return (
        f"{prefix}_{pairs[high >> 60]}{pairs[high >> 50 & 1023]}{pairs[high >> 40 & 1023]}{pairs[high >> 30 & 1023]}"
        f"{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}{pairs[low >> 50]}"
        f"{pairs[low >> 40 & 1023]}{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}"
        f"{pairs[low & 1023]}"
    )


@lru_cache(maxsize=KEPT_MAX)
def decode(prefix: str, text: str) -> UUID:
    """The UUID behind a text form; raises `MalformedId` for anything but the one canonical spelling."""
    head, _, tail = text.rpartition("_")
    if head != prefix or not _well_formed(tail):
        raise MalformedId(prefix)
    return _uuid(int(tail.translate(_TO_PYTHON), 32))


def made_at(prefix: str, text: str) -> datetime:
    """When an identifier was made, to the millisecond. Raises `MalformedId`."""
    return datetime.fromtimestamp((decode(prefix, text).int >> 80) / 1000, UTC)


def is_id(prefix: str, text: str) -> bool:
    """Whether the text is a well-formed identifier of this kind."""
    try:
        decode(prefix, text)
    except MalformedId:
        return False
    return True

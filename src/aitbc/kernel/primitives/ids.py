"""Identifiers: UUIDv7 in the database, TypeID text everywhere else.

The text form is a prefix, an underscore and the 128 bits in Crockford's base 32, lower case: `job_01hzy…`. It sorts by
the time of creation, is selected with a double click, and names its type.
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
CACHE_SIZE = 8192
"""How many ids are cached in both forms: the same ones are converted many times while a job runs."""
RANDOM_BYTES = 4096
"""How many random bytes are fetched at a time: the system call costs more than everything else about an id."""
_random_words: list[int] = []
_LETTERS = bytes(ord(ALPHABET[byte & 31]) for byte in range(256))
_request_ids: list[str] = []
os.register_at_fork(after_in_child=_random_words.clear)
os.register_at_fork(after_in_child=_request_ids.clear)  # two processes must not use the same random values


class MalformedId(ValueError):
    """The text is not an identifier with the expected prefix."""


def new_uuid() -> UUID:
    """A fresh UUIDv7 (RFC 9562): milliseconds, 12 bits that keep the order within a millisecond, random bits."""
    global _last_stamp  # noqa: PLW0603
    microseconds = int(now().timestamp() * 1_000_000)
    with _lock:
        stamp = (microseconds // 1000 << 12) | (microseconds % 1000 << 2)
        _last_stamp = stamp = max(stamp, _last_stamp + 1)
        if not _random_words:
            _random_words.extend(memoryview(os.urandom(RANDOM_BYTES)).cast("Q"))
        random = _random_words.pop() & 0x3FFF_FFFF_FFFF_FFFF
    return _uuid((stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random)


def lowest_uuid(at: datetime) -> UUID:
    """A lower bound of the UUIDs that are made from a time on."""
    milliseconds = int(at.timestamp() * 1000)
    return _uuid(max(milliseconds, 0) << 80)


def new_id(prefix: str) -> str:
    """A fresh identifier, for instance `job_01hzy…` for the prefix `job`."""
    return encode(prefix, new_uuid())


def new_request_id() -> str:
    """A fresh request id: `req_` and 26 random letters. Its order does not matter: no index is built over it."""
    try:
        return _request_ids.pop()
    except IndexError:
        letters = os.urandom(RANDOM_BYTES).translate(_LETTERS).decode("ascii")
        _request_ids.extend("req_" + letters[at : at + 26] for at in range(0, RANDOM_BYTES - 25, 26))
        return _request_ids.pop()


def _uuid(number: int) -> UUID:
    """A UUID of asyncpg's own class, which is made, compared and sent in a third of the time of Python's."""
    value: UUID = pgproto.UUID(number.to_bytes(16, "big"))
    return value


@lru_cache(maxsize=CACHE_SIZE)
def encode(prefix: str, value: UUID) -> str:
    """The text form of a UUID."""
    pairs, number = _PAIRS, value.int
    high, low = number >> 60, number & 0xFFF_FFFF_FFFF_FFFF
    # Written out because every row has several ids: a loop over the pairs takes twice as long.
    return (
        f"{prefix}_{pairs[high >> 60]}{pairs[high >> 50 & 1023]}{pairs[high >> 40 & 1023]}{pairs[high >> 30 & 1023]}"
        f"{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}{pairs[low >> 50]}"
        f"{pairs[low >> 40 & 1023]}{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}"
        f"{pairs[low & 1023]}"
    )


@lru_cache(maxsize=CACHE_SIZE)
def decode(prefix: str, text: str) -> UUID:
    """The UUID behind a text form; raises `MalformedId` for anything but the one canonical spelling."""
    head, _, tail = text.rpartition("_")
    if head != prefix or not _well_formed(tail):
        raise MalformedId(prefix)
    return _uuid(int(tail.translate(_TO_PYTHON), 32))


def made_at(prefix: str, text: str) -> datetime:
    """The creation time in an identifier, to the millisecond. Raises `MalformedId`."""
    return datetime.fromtimestamp((decode(prefix, text).int >> 80) / 1000, UTC)


def is_id(prefix: str, text: str) -> bool:
    """Whether the text is a well-formed identifier with this prefix."""
    try:
        decode(prefix, text)
    except MalformedId:
        return False
    return True

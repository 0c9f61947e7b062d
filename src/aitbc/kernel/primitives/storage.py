"""Errors of the disk: a full, failing or read-only one is a refusal with a code, which says when to come again."""

import errno
import os

from aitbc.kernel.primitives.errors import StorageFailed, StorageFull, Unavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FAILED = frozenset({errno.EIO, errno.EROFS})


def storage_error(error: BaseException) -> Unavailable | None:
    """The error to answer for an operating system's error about its disk; none for any other."""
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL:
        return StorageFull()
    return StorageFailed() if number in FAILED else None


def names_storage(message: str) -> bool:
    """Whether another program's message holds the system's own words for such an error."""
    return any(os.strerror(number) in message for number in FULL | FAILED)

"""Translate database errors: SQLSTATEs and connection errors become errors with a code, in this one place.

So do errors of the disk, PostgreSQL's and our own: a file is often moved inside of a transaction.
"""

import socket
from typing import ClassVar

import asyncpg
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aitbc.kernel.primitives.errors import (
    AmountOverflow,
    AppError,
    Conflict,
    Invalid,
    OutcomeUnknown,
    StorageFailed,
    StorageFull,
    Unavailable,
)
from aitbc.kernel.primitives.ids import MalformedId
from aitbc.kernel.primitives.request_errors import InvalidText, OutOfRange
from aitbc.kernel.primitives.storage import storage_error


class Busy(Unavailable):
    """Others are changing the same things right now; try again."""

    code = "busy"
    retry: ClassVar[bool] = True
    """Nothing was changed: the same transaction may be retried."""


class ConstraintViolated(Conflict):
    """This would contradict what is stored."""

    code = "constraint_violated"


_STATES: dict[str, type[AppError]] = {
    "40001": Busy,  # serialization failure
    "40P01": Busy,  # deadlock
    "55P03": Busy,  # lock timeout
    "0A000": Busy,  # a prepared statement is older than a migration; the driver drops it, and the retry prepares it again
    "53100": StorageFull,
    "58030": StorageFailed,  # EIO
    "57014": Unavailable,  # statement timeout
    "25006": Unavailable,  # the server became a read-only replica
    "25P03": Unavailable,  # the server closed a transaction that was idle
    "22003": AmountOverflow,
    "22008": OutOfRange,  # a time outside of PostgreSQL's range
    "22021": InvalidText,
    "22P05": InvalidText,
    "22P02": InvalidText,
    "23505": ConstraintViolated,
    "23514": ConstraintViolated,
    "23P01": ConstraintViolated,
    "23503": ConstraintViolated,
}
_BY_MESSAGE: dict[tuple[str, str], type[AppError]] = {
    ("XX000", "Disk quota exceeded"): StorageFull,
    ("42501", "Read-only file system"): StorageFailed,
}
"""What PostgreSQL has no SQLSTATE for: the end of its message, the operating system's own words."""
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
"""SQLSTATE classes: connection exception, insufficient resources, operator intervention, system error."""


def translate(error: BaseException) -> AppError | None:
    """The error to answer for a driver's exception; none when it is not about the database, or is a bug of ours."""
    if isinstance(error, AppError):
        return None
    if isinstance(error, PoolTimeout):
        return Unavailable("All database connections are busy; try again shortly.")
    if isinstance(error, StatementError) and isinstance(error.orig, MalformedId):
        return Invalid("An id in this request is not of the kind that belongs there.")
    cause = _cause(error)
    if state := _state(cause):
        if state in _STATES:
            return _STATES[state]()
        if state[:2] in _UNAVAILABLE_CLASSES:
            return _unavailable()
        return next(
            (kind() for (code, words), kind in _BY_MESSAGE.items() if code == state and words in str(cause)), None
        )
    if isinstance(cause, asyncpg.DataError):
        return _invalid_value(cause)
    if refusal := storage_error(cause):
        return refusal
    return _unavailable() if _is_connection_error(cause) else None


def translate_commit(error: BaseException) -> AppError | None:
    """The same for an error of COMMIT: after a connection lost there, nobody knows whether it was committed."""
    cause = _cause(error)
    state = _state(cause)
    # A server that shuts down during COMMIT leaves the outcome unknown; a full disk or a conflict has rolled back.
    lost = state[:2] in ("08", "57", "58") and state != "57014" if state else _is_connection_error(cause)
    return OutcomeUnknown() if lost and not isinstance(error, AppError) else translate(error)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error, inside the one that SQLAlchemy made of it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _state(cause: BaseException) -> str | None:
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state if isinstance(state, str) else None


def _unavailable() -> Unavailable:
    return Unavailable("The database is not available; try again shortly.")


def _invalid_value(cause: asyncpg.DataError) -> AppError | None:
    """The error for a value that the driver could not encode: too large, or not text; none for a wrong type."""
    message = str(cause)
    if "out of" in message and "range" in message:
        return OutOfRange()
    return InvalidText() if "surrogates not allowed" in message or "codec can't encode" in message else None


def _is_connection_error(cause: BaseException) -> bool:
    match cause:
        case asyncpg.InterfaceError():
            return "another operation" not in str(cause)  # one connection used concurrently is a bug of ours
        case asyncpg.InternalClientError():
            return True  # raised when the connection broke within a protocol exchange
        case ConnectionError() | TimeoutError() | socket.gaierror():
            return True
        case FileNotFoundError():
            return ".s.PGSQL" in str(cause) or cause.filename is None  # the server's Unix socket; not some other file
        case OSError():
            return "Connect call failed" in str(cause)  # several addresses, none of which accepted
    return False

"""What the database's complaints mean to a caller: SQLSTATE and connection errors become errors with a code, in this one place."""

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
    StorageFull,
    Unavailable,
)
from aitbc.kernel.primitives.ids import MalformedId
from aitbc.kernel.primitives.request_errors import InvalidText, OutOfRange


class Busy(Unavailable):
    """Others are changing the same things right now; try again."""

    code = "busy"
    retry: ClassVar[bool] = True
    """Nothing was changed: the same transaction may be run again at once."""


class ConstraintViolated(Conflict):
    """This would contradict what is stored."""

    code = "constraint_violated"


_STATES: dict[str, type[AppError]] = {
    "40001": Busy,  # serialization failure
    "40P01": Busy,  # deadlock
    "55P03": Busy,  # lock timeout
    "0A000": Busy,  # a prepared statement outlived a migration; the driver forgets it and the next run prepares anew
    "53100": StorageFull,
    "57014": Unavailable,  # statement timeout
    "25006": Unavailable,  # a replica that was promoted away from under us
    "25P03": Unavailable,  # the server ended a transaction that idled
    "22003": AmountOverflow,
    "22008": OutOfRange,  # a time outside of what the database holds
    "22021": InvalidText,
    "22P05": InvalidText,
    "22P02": InvalidText,
    "23505": ConstraintViolated,
    "23514": ConstraintViolated,
    "23P01": ConstraintViolated,
    "23503": ConstraintViolated,
}
_ABSENT_CLASSES = ("08", "53", "57", "58")
"""Connection lost, resources short, shut down or crashed, input or output broken."""


def translate(error: BaseException) -> AppError | None:
    """The error a caller may see for what the driver raised, or none when it is not about the database or is our mistake."""
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
        return _absent() if state[:2] in _ABSENT_CLASSES else None
    if isinstance(cause, asyncpg.DataError):
        return _unfit_value(cause)
    return _absent() if _is_connection_trouble(cause) else None


def translate_commit(error: BaseException) -> AppError | None:
    """The same for an error raised by COMMIT: a connection lost there leaves open whether the change was made."""
    cause = _cause(error)
    state = _state(cause)
    # A server that is shut down while it commits has told nobody how it ended; a full disk or a conflict has rolled back.
    lost = state[:2] in ("08", "57", "58") and state != "57014" if state else _is_connection_trouble(cause)
    return OutcomeUnknown() if lost and not isinstance(error, AppError) else translate(error)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error inside the one that SQLAlchemy made of it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _state(cause: BaseException) -> str | None:
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state if isinstance(state, str) else None


def _absent() -> Unavailable:
    return Unavailable("The database is not available; try again shortly.")


def _unfit_value(cause: asyncpg.DataError) -> AppError | None:
    """The driver could not write a value down: too large, or not text; anything else is a wrong type, a mistake of ours."""
    told = str(cause)
    if "out of" in told and "range" in told:
        return OutOfRange()
    return InvalidText() if "surrogates not allowed" in told or "codec can't encode" in told else None


def _is_connection_trouble(cause: BaseException) -> bool:
    match cause:
        case asyncpg.InterfaceError():
            return "another operation" not in str(cause)  # one connection used twice at once is a mistake of ours
        case asyncpg.InternalClientError():
            return True  # what the driver says when a connection broke in the middle of its talk
        case ConnectionError() | TimeoutError() | socket.gaierror():
            return True
        case FileNotFoundError():
            return ".s.PGSQL" in str(cause) or cause.filename is None  # the server's socket; other files are not ours
        case OSError():
            return "Connect call failed" in str(cause)  # several addresses, none of which answered
    return False

"""Database errors: every SQLSTATE and connection error becomes an error with a code."""

import errno
import os
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aitbc.kernel.database.sql_errors import Busy, translate, translate_commit
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import AppError, OutcomeUnknown, StorageFailed, StorageFull, Unavailable
from aitbc.kernel.primitives.request_errors import InvalidText
from tests.kernel.probe import probe_database


def told(state: str) -> asyncpg.PostgresError:
    """The driver's error for a SQLSTATE."""
    error = asyncpg.PostgresError("on purpose")
    vars(error)["sqlstate"] = state
    return error


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40001", Busy),
        ("40P01", Busy),
        ("55P03", Busy),
        ("53100", StorageFull),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("53300", Unavailable),
        ("08006", Unavailable),
        ("58030", StorageFailed),
        ("22021", InvalidText),
    ],
)
def test_a_state_has_its_error(state: str, kind: type[AppError]) -> None:
    error = translate(told(state))
    assert isinstance(error, kind)
    if error.status == 503:
        assert error.headers["Retry-After"]


@pytest.mark.parametrize(
    "error",
    [
        PoolTimeout(),
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state"),
    ],
)
def test_a_database_that_is_not_there_is_asked_for_later(error: Any) -> None:
    found = translate(error)
    assert isinstance(found, Unavailable)
    assert found.headers["Retry-After"]


@pytest.mark.parametrize(
    "error", [told("42601"), told("42501"), ValueError(), FileNotFoundError(2, "no", "/some/file"), KeyError("x")]
)
def test_a_mistake_of_ours_is_not_taken_for_the_databases(error: Exception) -> None:
    assert translate(error) is None


@pytest.mark.parametrize("error", [told("08006"), told("57P01"), ConnectionResetError(), TimeoutError()])
def test_a_connection_lost_while_committing_leaves_open_what_happened(error: Exception) -> None:
    assert isinstance(translate_commit(error), OutcomeUnknown)


@pytest.mark.parametrize(("state", "kind"), [("40001", Busy), ("53100", StorageFull), ("57014", Unavailable)])
def test_a_commit_that_was_refused_has_rolled_back(state: str, kind: type[AppError]) -> None:
    found = translate_commit(told(state))
    assert isinstance(found, kind)
    assert not isinstance(found, OutcomeUnknown)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, StorageFailed),
        (errno.EROFS, StorageFailed),
    ],
)
def test_a_disk_of_ours_that_takes_no_writes_has_its_error(number: int, kind: type[AppError]) -> None:
    error = translate(OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert error.headers["Retry-After"]


@pytest.mark.parametrize(
    ("state", "words", "kind"),
    [
        ("53100", "No space left on device", StorageFull),
        ("XX000", "Disk quota exceeded", StorageFull),
        ("58030", "Input/output error", StorageFailed),
        ("42501", "Read-only file system", StorageFailed),
    ],
)
async def test_a_disk_of_the_database_that_takes_no_writes_has_its_error(
    target: Target, state: str, words: str, kind: type[AppError]
) -> None:
    """PostgreSQL has no SQLSTATE for two of them: it raises others, with the system's words."""
    message = f"could not extend file base/5/16384: {words}"
    failing = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '{message}'; END $$"
    async with probe_database(target) as db:
        with pytest.raises(kind):
            async with db.unit_of_work() as uow:
                await uow.session.execute(text(failing))
        with pytest.raises(kind):
            async with db.raw_transaction() as connection:
                await connection.execute(failing)

"""Database errors: every SQLSTATE and connection error becomes an error with a code."""

from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aitbc.kernel.database.sql_errors import Busy, translate, translate_commit
from aitbc.kernel.primitives.errors import AppError, OutcomeUnknown, StorageFull, Unavailable
from aitbc.kernel.primitives.request_errors import InvalidText


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
        ("58030", Unavailable),
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

"""A statement that was given up is not done, or its caller is told that the outcome is unknown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import text

from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.primitives.errors import OutcomeUnknown, Unavailable
from tests.kernel.probe import probe_database

SLOW = "INSERT INTO probe.things (id, name, count) SELECT gen_random_uuid(), '{name}', 0 FROM pg_sleep(0.6)"
QUICK = "INSERT INTO probe.things (id, name, count) VALUES (gen_random_uuid(), '{name}', 0)"
SLOW_COMMIT = """
    CREATE OR REPLACE FUNCTION probe.slowly() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END $$;
    DROP TRIGGER IF EXISTS slowly ON probe.things;
    CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON probe.things DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.name LIKE 'late%') EXECUTE FUNCTION probe.slowly()"""
LOOK = "SELECT count(*) FROM probe.things WHERE name = $1"
WAYS = ("raw", "raw_transaction", "unit_of_work")


async def write(db: Database, way: str, statement: str) -> None:
    """One statement, in one of the three ways."""
    if way == "raw":
        async with db.raw(writes=True) as connection:
            await connection.execute(statement)
    elif way == "raw_transaction":
        async with db.raw_transaction() as connection:
            await connection.execute(statement)
    else:
        async with db.unit_of_work() as uow:
            await uow.session.execute(text(statement))


async def rows_later(db: Database, name: str) -> int:
    """How many rows there are once the statement would have ended by itself."""
    await asyncio.sleep(0.9)
    async with db.raw() as connection:
        return int(await connection.fetchval(LOOK, name))


async def given_up(db: Database, way: str, statement: str) -> None:
    task = asyncio.create_task(write(db, way, statement))
    await asyncio.sleep(0.25)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_statement_whose_caller_was_cancelled_is_not_done(target: Target) -> None:
    async def one(way: str) -> None:
        await given_up(db, way, SLOW.format(name=f"cancelled {way}"))
        assert await rows_later(db, f"cancelled {way}") == 0, way

    async with probe_database(target) as db:
        await asyncio.gather(*map(one, WAYS))


async def test_a_commit_whose_caller_was_cancelled_is_not_done(target: Target) -> None:
    async def one(way: str) -> None:
        await given_up(db, way, QUICK.format(name=f"late {way}"))
        assert await rows_later(db, f"late {way}") == 0, way

    async with probe_database(target) as db, owner(target) as connection:
        await connection.execute(SLOW_COMMIT)
        await asyncio.gather(*map(one, WAYS[1:]))


async def test_a_caller_that_is_cancelled_twice_leaves_nothing_behind(target: Target) -> None:
    async with probe_database(target) as db:
        task = asyncio.create_task(write(db, "raw", SLOW.format(name="twice given up")))
        await asyncio.sleep(0.25)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rows_later(db, "twice given up") == 0


async def test_a_statement_that_timed_out_is_not_done_or_told(target: Target) -> None:
    async def one(way: str) -> None:
        with pytest.raises(OutcomeUnknown if way == "raw" else Unavailable):
            await write(db, way, SLOW.format(name=f"timed out {way}"))
        assert await rows_later(db, f"timed out {way}") == 0, way

    async with impatient(target) as db:
        await asyncio.gather(*map(one, WAYS))


async def test_a_commit_that_timed_out_is_told(target: Target) -> None:
    async def one(way: str) -> None:
        with pytest.raises(OutcomeUnknown):
            await write(db, way, QUICK.format(name=f"late out {way}"))

    async with impatient(target) as db, owner(target) as connection:
        await connection.execute(SLOW_COMMIT)
        await asyncio.gather(*map(one, WAYS[1:]))


async def test_an_autocommit_statement_whose_connection_broke_is_told_as_unknown(target: Target) -> None:
    async with probe_database(target) as db, owner(target) as connection:
        task = asyncio.create_task(write(db, "raw", SLOW.format(name="broken")))
        while not await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT%broken%' AND state = 'active'"
        ):
            assert not task.done()
            await asyncio.sleep(0.02)
        with pytest.raises(OutcomeUnknown):
            await task


async def test_a_read_that_was_given_up_has_no_unknown_outcome(target: Target) -> None:
    async with impatient(target) as db:
        with pytest.raises(Unavailable) as refusal:
            async with db.raw() as connection:
                await connection.fetchval("SELECT pg_sleep(0.6)")
        assert refusal.value.code == "unavailable"


async def test_a_statement_that_runs_when_the_pools_close_is_not_done(target: Target) -> None:
    async with probe_database(target) as db:
        task = asyncio.create_task(write(db, "raw", SLOW.format(name="closed")))
        await asyncio.sleep(0.25)
        await db.close()
        with pytest.raises(Unavailable):
            await task
    async with probe_database(target) as db:
        assert await rows_later(db, "closed") == 0


@asynccontextmanager
async def impatient(target: Target) -> AsyncIterator[Database]:
    """A database whose driver gives a statement up before the server does, as when the server hangs."""
    async with probe_database(target) as db:
        db._arguments["command_timeout"] = 0.25
        yield db


@asynccontextmanager
async def owner(target: Target) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=30))
    try:
        yield connection
    finally:
        await connection.close()

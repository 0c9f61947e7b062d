"""BEGIN and COMMIT go with a transaction's first and last statement: fewer sends, and all or nothing as ever."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from aitbc.kernel.database.pipeline import Wire
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.database.write_batch import UnexpectedCount, WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import Conflict
from tests.kernel.probe import probe_database

ADD = "INSERT INTO probe.things (id, name, count) SELECT *, 0 FROM unnest($1::uuid[], $2::text[])"
COUNT = "SELECT count(*) FROM probe.things WHERE id = ANY($1::uuid[])"


def add(*things: UUID) -> WriteBatch:
    """A batch that adds things."""
    writes = WriteBatch()
    writes.add(ADD, list(things), [f"pipelined {thing}" for thing in things])
    return writes


async def count(db: Database, *things: UUID) -> int:
    """How many of these things are there, for another connection too."""
    async with db.raw() as connection:
        return int(await connection.fetchval(COUNT, list(things)))


@contextmanager
def sends(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often something is sent to the database meanwhile."""
    seen: list[int] = []
    write = Wire.write

    def counted(self: Wire, data: object) -> None:
        seen.append(1)
        write(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(Wire, "write", counted)
        yield seen


async def test_begin_and_commit_need_no_send_of_their_own(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    async with probe_database(target) as db:
        things = [ids.new_uuid() for _ in range(4)]
        for thing in things[:3]:  # from the second time on every statement is prepared
            with sends(monkeypatch) as seen:
                async with db.raw_transaction() as connection:
                    assert await connection.fetchval(COUNT, things) == things.index(thing)
                    assert await add(thing).do(connection, commits=True) == (1,)
                assert not connection.is_in_transaction()
        assert len(seen) == 2
        with sends(monkeypatch) as seen:
            async with db.raw_transaction():
                pass
        assert not seen
        with sends(monkeypatch) as seen:
            async with db.raw_transaction() as connection:
                await add(things[3]).do(connection)
        assert len(seen) == 2  # the batch, with BEGIN; and COMMIT, which nothing went with
        assert await count(db, *things) == 4


async def test_what_fails_leaves_nothing_and_its_connection_goes_on(target: Target) -> None:
    async with probe_database(target) as db:
        first, second = ids.new_uuid(), ids.new_uuid()
        with pytest.raises(Conflict):  # noqa: PT012
            async with db.raw_transaction() as connection:
                await add(first).do(connection)
                await add(second, second).do(connection, commits=True)
        with pytest.raises(UnexpectedCount):  # noqa: PT012
            async with db.raw_transaction() as connection:
                await add(first).do(connection)
                writes = WriteBatch()
                writes.expect(writes.add("DELETE FROM probe.things WHERE id = $1", second), 1)
                await writes.do(connection, commits=True)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with db.raw_transaction() as connection:
                await add(first).do(connection)
                raise ZeroDivisionError
        with pytest.raises(Conflict):  # its first statement fails, and BEGIN went with it
            async with db.raw_transaction() as connection:
                await add(first, first).do(connection)
        async with db.raw() as again:
            assert again is connection
            assert not again.is_in_transaction()
        assert await count(db, first, second) == 0


async def test_what_only_commit_refuses_is_refused(target: Target) -> None:
    async with probe_database(target) as db, db.raw() as connection:
        await connection.execute("CREATE TEMP TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(Conflict):  # noqa: PT012
        async with probe_database(target) as db, db.raw_transaction() as connection:
            await connection.execute("CREATE TEMP TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            writes = WriteBatch()
            writes.add("INSERT INTO late SELECT unnest($1::int[])", [1, 1])
            await writes.do(connection, commits=True)


async def test_who_is_cancelled_while_it_commits_leaves_all_or_nothing(target: Target) -> None:
    async with probe_database(target) as db:
        thing, other = ids.new_uuid(), ids.new_uuid()
        started = asyncio.Event()

        async def added(thing: UUID, seconds: float) -> None:
            async with db.raw_transaction() as connection:
                writes = add(thing)
                writes.add("DELETE FROM probe.things WHERE (SELECT pg_sleep($1)) IS NULL", seconds)
                await connection.execute("SELECT 1")
                started.set()
                await writes.do(connection, commits=True)

        await added(other, 0)
        started.clear()
        task = asyncio.create_task(added(thing, 20))
        await started.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await count(db, thing) in (0, 1)
        await added(ids.new_uuid(), 0)
        assert await count(db, other) == 1

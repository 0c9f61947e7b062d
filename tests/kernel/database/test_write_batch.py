"""Several statements go in one round trip: all of them or none, each as it was written."""

from uuid import UUID

import asyncpg
import pytest

from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import Conflict
from tests.kernel.probe import probe_database

ADD = "INSERT INTO probe.things (id, name, count) SELECT *, 0 FROM unnest($1::uuid[], $2::text[])"
RENAME = "UPDATE probe.things SET name = $2 WHERE id = ANY($1::uuid[])"


def fresh() -> UUID:
    """The UUID of a thing to come."""
    return ids.new_uuid()


async def names(db: Database, *things: UUID) -> list[str]:
    """What these things are called."""
    async with db.raw() as connection:
        rows = await connection.fetch("SELECT name FROM probe.things WHERE id = ANY($1::uuid[])", list(things))
    return sorted(row["name"] for row in rows)


async def test_each_statement_is_done_with_its_own_values_and_tells_its_own_count(target: Target) -> None:
    async with probe_database(target) as db:
        old, things = fresh(), [fresh() for _ in range(3)]
        async with db.raw_transaction() as connection:
            await connection.execute(ADD, [old], ["together old"])
            writes = WriteBatch()
            added = writes.add(ADD, things[:2], ["together one", "together two"])
            renamed = writes.add(RENAME, [old], "together new")
            more = [writes.add(ADD, [thing], [f"together {thing}"]) for thing in things[2:]]
            counts = await writes.do(connection)
        assert (counts[added], counts[renamed], [counts[place] for place in more]) == (2, 1, [1])
        assert await names(db, old, *things[:2]) == ["together new", "together one", "together two"]


async def test_no_statement_sees_what_another_does(target: Target) -> None:
    async with probe_database(target) as db:
        thing = fresh()
        async with db.raw_transaction() as connection:
            writes = WriteBatch()
            writes.add(ADD, [thing], ["together unseen"])
            renamed = writes.add(RENAME, [thing], "together renamed")
            assert (await writes.do(connection))[renamed] == 0
        assert await names(db, thing) == ["together unseen"]


async def test_a_statement_that_fails_takes_the_others_with_it(target: Target) -> None:
    async with probe_database(target) as db:
        good, bad = fresh(), fresh()
        with pytest.raises(Conflict):  # noqa: PT012
            async with db.raw_transaction() as connection:
                writes = WriteBatch()
                writes.add(ADD, [good], ["together good"])
                writes.add(ADD, [bad, bad], ["together bad", "together bad"])
                await writes.do(connection)
        assert await names(db, good, bad) == []


async def test_nothing_to_do_asks_nobody(target: Target) -> None:
    async with probe_database(target) as db, db.raw() as connection:
        await connection.execute("SELECT 1")
        connection.terminate()
        assert await WriteBatch().do(connection) == ()
        with pytest.raises(asyncpg.InterfaceError):
            await connection.execute("SELECT 1")

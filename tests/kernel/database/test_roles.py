"""The grants of each module's role, read from PostgreSQL and tried out as that role."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from aitbc.app import MODULES, parts
from aitbc.kernel.database.migrations import Part
from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.database.unit_of_work import Target

PARTS = parts(MODULES)
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
FOR_GOOD = {
    "trading": {"transactions", "entries", "receipts", "blocks", "block_items", "node_keys", "fee_rates"},
}
"""What is never changed once it is written; every module's audit trail is besides."""
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)


@asynccontextmanager
async def entered(target: Target, user: str | None = None) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The database as one role, or as its owner."""
    own = Target(host=target.host, port=target.port, user=user or target.user, database=target.database)
    connection = await asyncpg.connect(**own.connect_arguments(application="tests", statement_seconds=20))
    try:
        yield connection
    finally:
        await connection.close()


@each_part
async def test_a_role_may_log_in_and_is_nobody_special(target: Target, part: Part) -> None:
    async with entered(target, part.role) as connection:
        role = await connection.fetchrow("SELECT * FROM pg_roles WHERE rolname = current_user")
        assert role is not None
        assert role["rolcanlogin"]
        for power in ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls", "rolinherit"):
            assert not role[power], power
        assert await connection.fetch("SELECT 1 FROM pg_auth_members WHERE member = current_user::regrole") == []
        assert await connection.fetch("SELECT relname FROM pg_class WHERE relowner = current_user::regrole") == []
        assert await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspowner = current_user::regrole") == []


@each_part
async def test_a_role_enters_its_own_schema_and_makes_nothing_anywhere(target: Target, part: Part) -> None:
    schemas = ", ".join(f"('{other.name}')" for other in PARTS)
    async with entered(target, part.role) as connection:
        seen = await connection.fetch(
            "SELECT s.name, has_schema_privilege(s.name, 'USAGE') AS enter, has_schema_privilege(s.name, 'CREATE') AS make"
            f" FROM (VALUES {schemas}, ('public')) AS s(name)"
        )
        assert {row["name"] for row in seen if row["enter"]} == {part.name}
        assert not [row["name"] for row in seen if row["make"]]
        for other in PARTS:
            if other.name != part.name:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(f"SELECT 1 FROM {other.name}.audit")
        for schema in (part.name, "public"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"CREATE TABLE {schema}.mine (a int)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"DROP TABLE {part.name}.audit")


@each_part
async def test_a_role_may_do_with_each_table_what_is_stated_and_no_more(target: Target, part: Part) -> None:
    stated = {table.name: set(table.info.get("grants", ALL["grants"])) for table in part.metadata.sorted_tables}
    stated["alembic_version"] = {"SELECT"}
    async with entered(target, part.role) as connection:
        rows = await connection.fetch(
            "SELECT c.relname AS name, p.what, has_table_privilege(c.oid, p.what) AS may"
            " FROM pg_class c, unnest($2::text[]) AS p(what)"
            " WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
            part.name,
            list(PRIVILEGES),
        )
        columns = await connection.fetch(
            "SELECT c.relname AS name, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE c.relnamespace = $1::regnamespace AND a.attacl IS NOT NULL",
            part.name,
        )
    found = {
        row["name"]: {other["what"] for other in rows if other["name"] == row["name"] and other["may"]} for row in rows
    }
    assert found == stated
    assert columns == []
    for table in FOR_GOOD.get(part.name, set()) | {"audit"}:
        assert found[table] == {"SELECT", "INSERT"}, table


@each_part
async def test_what_is_written_for_good_stays_as_it_is(target: Target, part: Part) -> None:
    async with entered(target, part.role) as connection:
        for table in sorted(FOR_GOOD.get(part.name, set()) | {"audit"}):
            column = await connection.fetchval(
                "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 2", f"{part.name}.{table}"
            )
            for statement in (
                f"UPDATE {part.name}.{table} SET {column} = {column}",
                f"DELETE FROM {part.name}.{table}",
                f"TRUNCATE {part.name}.{table}",
                f"ALTER TABLE {part.name}.{table} DISABLE TRIGGER ALL",
                f"SELECT 1 FROM {part.name}.{table} FOR UPDATE",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET session_replication_role = replica")

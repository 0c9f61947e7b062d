"""What somebody changes behind the program's back is found by the ledger's own verification, and named."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from aitbc.kernel.database.unit_of_work import Connection, Target
from aitbc.modules.trading.models.views import Divergence
from aitbc.modules.trading.service.verification import walk
from tests.modules.trading.make import funded, role_of, sql, trading_on
from tests.modules.trading.test_chain import a_history
from tests.scale import scaled

UNSEEN = {
    "accounts": {"created_at", "budgets"},
    "holds": {"expires_at", "fee_basis_points", "budgets"},
}
"""What no record speaks of (the fee of a hold: until it is settled), and what therefore cannot be checked against one."""
CHANGES = {
    "bigint": "{0} + 1",
    "integer": "{0} + 1",
    "smallint": "{0} + 50",
    "text": "overlay({0} placing chr(ascii(right({0}, 1)) + 1) from length({0}))",
    "bytea": "set_byte({0}, 3, (get_byte({0}, 3) + 1) % 256)",
    "uuid": "gen_random_uuid()",
    "timestamp with time zone": "{0} + interval '1 second'",
}
TABLES = ("entries", "transactions", "receipts", "blocks", "block_items", "holds", "accounts", "unsealed")


@asynccontextmanager
async def as_superuser(owner: Target) -> AsyncIterator[Connection]:
    """A connection that no rule of the tables holds back."""
    async with sql(owner) as connection:
        await connection.execute("SET session_replication_role = replica")
        for table, constraint in await connection.fetch(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint JOIN pg_class c ON c.oid = conrelid"
            " WHERE contype IN ('c', 'u') AND c.relnamespace = 'trading'::regnamespace"
        ):
            await connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{constraint}"')
        yield connection


async def divergence_after(connection: Connection, *statements: str) -> Divergence | None:
    """What verification says after a change, which is then undone."""
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        for statement in statements:
            done = await connection.execute(statement)
            assert not done.endswith(" 0"), f"nothing was changed by {statement}"
        return (await walk(connection)).divergence
    finally:
        await transaction.rollback()


NAMED = [
    ("UPDATE trading.entries SET amount_units = amount_units + 1 WHERE position = 0", "entries", 1),
    ("DELETE FROM trading.entries WHERE position = 1", "entries", 1),
    ("UPDATE trading.transactions SET body = replace(body, '0.000', '0.001') WHERE kind = 'void'", "digest", None),
    ("UPDATE trading.transactions SET kind = 'faucet' WHERE kind = 'deposit'", "kind", 1),
    ("DELETE FROM trading.transactions WHERE kind = 'correction'", "record", None),
    ("UPDATE trading.receipts SET body = replace(body, 'embed', 'train')", "digest", 1),
    ("UPDATE trading.receipts SET price_units = price_units + 1", "receipts/price_units", 1),
    (
        "UPDATE trading.accounts SET balance_units = balance_units + 1 WHERE owner <> 'system'",
        "accounts/balance_units",
        None,
    ),
    ("UPDATE trading.holds SET state = 'open', ended_at = NULL WHERE state = 'voided'", "holds/state", None),
    ("UPDATE trading.holds SET state = 'voided', ended_at = now() WHERE state = 'open'", "holds/state", None),
    ("UPDATE trading.holds SET price_units = price_units + 1 WHERE reason = 'ended'", "holds/price_units", None),
    ("UPDATE trading.holds SET fee_basis_points = 900 WHERE reason = 'ended'", "holds/price_units", None),
    ("UPDATE trading.blocks SET merkle_root = sha256('x') WHERE height = 1", "signature", 1),
    ("DELETE FROM trading.blocks WHERE height = 1", "height", 1),
    ("DELETE FROM trading.block_items WHERE sequence = 3", "sequence", 1),
    (
        """INSERT INTO trading.transactions SELECT gen_random_uuid(), kind, hold, 'x', reason, created_at, body
        FROM trading.transactions WHERE kind = 'deposit'""",
        "transactions",
        None,
    ),
    (
        """INSERT INTO trading.holds SELECT gen_random_uuid(), payer, 1, 0, 'open', reference, placed_at, expires_at,
        placed_by FROM trading.holds LIMIT 1""",
        "holds",
        None,
    ),
]


async def test_a_change_is_named_by_height_record_and_field(empty: Target) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading)
        assert (await trading.verify()).ok
    async with as_superuser(empty) as connection:
        assert (await walk(connection)).ok
        for statement, field, height in NAMED:
            found = await divergence_after(connection, statement)
            assert found is not None and found.field == field, (statement, found)
            if height is not None:
                assert found.height == height, (statement, found)


async def test_a_record_swapped_for_another_is_found(empty: Target) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading)
    async with as_superuser(empty) as connection:
        swapped = await divergence_after(
            connection,
            "UPDATE trading.block_items a SET record_id = b.record_id, digest = b.digest, kind = b.kind"
            " FROM trading.block_items b WHERE (a.sequence, b.sequence) IN ((2, 5), (5, 2))",
        )
        assert swapped is not None and swapped.height == 1


async def test_a_thousand_random_changes_are_found(empty: Target) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading)
        await funded(trading, 5)
    chance = random.Random(5)
    async with as_superuser(empty) as connection:
        columns = await connection.fetch(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'trading'"
            " AND table_name = ANY($1) AND column_name <> 'id' OR table_name = ANY($1) AND table_schema = 'trading'"
            " AND table_name <> 'unsealed' ORDER BY 1, 2",
            list(TABLES),
        )
        columns = [row for row in columns if row["column_name"] not in UNSEEN.get(row["table_name"], ())]
        rows = {
            table: [row["ctid"] for row in await connection.fetch(f"SELECT ctid::text FROM trading.{table} ORDER BY 1")]
            for table in TABLES
        }
        for _ in range(scaled(150, 1000)):
            table, column, kind = chance.choice(columns)
            place = f"ctid = '{chance.choice(rows[table])}'"
            if chance.random() < 0.2:
                statement = f"DELETE FROM trading.{table} WHERE {place}"
            else:
                changed = CHANGES[kind].format(column)
                statement = f"UPDATE trading.{table} SET {column} = {changed} WHERE {place} AND {column} IS NOT NULL"
            try:
                found = await divergence_after(connection, statement)
            except AssertionError:
                continue  # the value was null
            except asyncpg.PostgresError:
                continue  # not even a superuser could
            assert found is not None and found.field, statement


async def test_the_modules_role_can_change_nothing_that_is_written(empty: Target) -> None:
    async with trading_on(empty) as trading:
        await a_history(trading, jobs=1)
    async with sql(role_of(empty)) as connection:
        for table in (
            "entries",
            "transactions",
            "receipts",
            "blocks",
            "block_items",
            "audit",
            "node_keys",
            "fee_rates",
        ):
            for statement in ("UPDATE trading.{} SET {} = {}", "DELETE FROM trading.{}", "TRUNCATE trading.{}"):
                ((column,),) = await connection.fetch(
                    "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 2", f"trading.{table}"
                )
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement.format(table, column, column))
        for table in ("accounts", "holds"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"DELETE FROM trading.{table}")

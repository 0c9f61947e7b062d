"""Builders for the tests of trading: a ledger on a database of its own, and commands as other modules send them."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg

from aitbc.kernel.crypto.signing import Key, canonical, value_digest, work_statement
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.identity.principal import EVERYTHING, Principal
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.api import PayRent, PlaceHold, SettleHold
from aitbc.modules.trading.models.tables import Base
from aitbc.modules.trading.service import TradingService, TradingSettings
from tests.roles import ROLE_SCOPES

NODE = Key(bytes(range(32)))
MINER = Key(bytes(range(32, 64)))
ADMIN = Principal(
    account=ids.new_id("acct"), key=ids.new_id("key"), kind="admin", scopes=frozenset({EVERYTHING}), subject=None
)
AITBC = 10**8


def person() -> Principal:
    """Somebody with an account of their own."""
    return Principal(account=ids.new_id("acct"), key=ids.new_id("key"), kind="live", scopes=ROLE_SCOPES["live"])


def role_of(owner: Target, module: str = "trading") -> Target:
    """The way into the database that the module's own role has."""
    return Target(host=owner.host, port=owner.port, user=f"aitbc_{module}", database=owner.database)


class _Everybody:
    """An identity in which every account exists: the kernel tests the real one."""

    async def has_account(self, account: str) -> bool:
        return ids.is_id("acct", account)


@asynccontextmanager
async def trading_on(
    owner: Target,
    *,
    key: Key = NODE,
    database: type[Database] = Database,
    state_dir: Path = Path(),
    egress: Any = None,
    **settings: Any,
) -> AsyncIterator[TradingService]:
    """A started service over a migrated database; its pools are closed at the end."""
    tables = list(Base.metadata.tables.values())
    # A starved machine answers late now and then.
    db = database("trading", role_of(owner), tables, acquire_seconds=30, statement_seconds=30)
    platform: Any = SimpleNamespace(
        node_key=key, state_dir=state_dir, identity=_Everybody(), parameters=Parameters(), egress=egress
    )
    service = TradingService(db, platform, TradingSettings(**({"hold_grace_seconds": 0.0} | settings)))
    try:
        await service.start()
        yield service
    finally:
        await db.close()


@asynccontextmanager
async def sql(target: Target) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection: the owner's, unless the target is a role's."""
    connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=20))
    try:
        yield connection
    finally:
        await connection.close()


async def funded(trading: TradingService, units: int) -> str:
    """A new account with so much available."""
    account = ids.new_id("acct")
    if units:
        await trading.deposits.deposit(ADMIN, account, units, "for a test", IdempotencyKey.NONE)
    return account


def a_hold(payer: str, units: int, *, job: str | None = None, lasts: timedelta = timedelta(hours=1)) -> PlaceHold:
    """A hold for a job; both share one UUID."""
    job = job or ids.new_id("job")
    return PlaceHold(
        hold=ids.encode("hold", ids.decode("job", job)),
        payer=payer,
        amount_units=units,
        expires_at=now() + lasts,
        reference=job,
    )


def a_rent(placed: PlaceHold, price_units: int, *, owner: str | None = None) -> PayRent:
    """The rent that ends a hold."""
    return PayRent(
        hold=placed.hold,
        payer=placed.payer,
        owner=owner or ids.new_id("acct"),
        reference=placed.reference,
        price_units=price_units,
        reason="ended",
    )


def a_settlement(
    placed: PlaceHold, price_units: int, *, miner_account: str | None = None, miner: str | None = None
) -> SettleHold:
    """The settlement of a hold for work that its miner signed."""
    work: dict[str, Any] = {
        "job": placed.reference,
        "attempt": ids.encode("att", UUID(int=ids.decode("job", placed.reference).int ^ 1)),
        "token": 1,
        "miner": miner or ids.new_id("mnr"),
        "kind": "embed",
        "input_digest": value_digest({"texts": ["a"]}),
        "output_digest": value_digest({"vectors": [[0.5]]}),
    }
    return SettleHold(
        hold=placed.hold,
        payer=placed.payer,
        miner_account=miner_account or ids.new_id("acct"),
        unit="token",
        units=7,
        price_units=price_units,
        started_at=now(),
        finished_at=now(),
        miner_key=MINER.public,
        miner_signature=MINER.sign(canonical(work_statement(**work))),
        **work,
    )


def once() -> IdempotencyKey:
    """A fresh Idempotency-Key."""
    return IdempotencyKey(account=ADMIN.account, key=secrets.token_hex(8), fingerprint=b"x" * 32)


async def snapshot(owner: Target) -> dict[str, str]:
    """Every row of every table of trading, as a digest for each table, to compare before with after."""
    async with sql(owner) as connection:
        tables = await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'trading'")
        each = (
            f"SELECT '{row['name']}' AS name, md5(string_agg(t::text, '\n' ORDER BY t::text)) AS held FROM trading.{row['name']} t"
            for row in tables
        )
        return {row["name"]: row["held"] for row in await connection.fetch(" UNION ALL ".join(each))}


async def require_sound(trading: TradingService) -> None:
    """Money is neither made nor lost, and every table says the same."""
    report = await trading.verify()
    assert report.divergence is None, report.divergence

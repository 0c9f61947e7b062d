"""The raw pool: one user per connection at a time, never within a transaction, with cached generic plans."""

import asyncio

import pytest

from aitbc.kernel.database import raw_pool
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import Unavailable
from tests.kernel.probe import probe_database

PID = "SELECT pg_backend_pid()"


async def test_the_connection_that_came_back_last_is_lent_first(target: Target) -> None:
    async with probe_database(target, pool_size=2) as db:
        async with db.raw() as first, db.raw() as second:
            pids = [await first.fetchval(PID), await second.fetchval(PID)]
        for _ in range(3):
            async with db.raw() as again:
                assert await again.fetchval(PID) == pids[0]  # the outer block ended last


async def test_who_finds_all_connections_lent_is_refused_in_time(target: Target) -> None:
    async with probe_database(target, pool_size=1, acquire_seconds=0.2) as db:
        async with db.raw():
            with pytest.raises(Unavailable):
                async with db.raw():
                    pass
        async with db.raw() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_who_waits_gets_the_connection_that_comes_back(target: Target) -> None:
    async with probe_database(target, pool_size=1) as db:

        async def ask() -> int:
            async with db.raw() as connection:
                return int(await connection.fetchval(PID))

        assert len(set(await asyncio.gather(*(ask() for _ in range(20))))) == 1


async def test_a_connection_that_was_left_in_a_transaction_is_not_lent_again(target: Target) -> None:
    async with probe_database(target, pool_size=1) as db:
        async with db.raw() as connection:
            left = await connection.fetchval(PID)
            await connection.execute("BEGIN")
        async with db.raw() as connection:
            assert await connection.fetchval(PID) != left


async def test_a_connection_that_nobody_needs_is_ended(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_pool, "IDLE_SECONDS", 0.1)
    async with probe_database(target, pool_size=1) as db:
        async with db.raw() as connection:
            pid = await connection.fetchval(PID)
        await asyncio.sleep(0.5)
        assert connection.is_closed()
        async with db.raw() as other:
            assert await other.fetchval(PID) != pid


async def test_a_task_that_is_cancelled_while_it_waits_takes_no_connection_away(target: Target) -> None:
    async with probe_database(target, pool_size=1) as db:

        async def ask() -> None:
            async with db.raw() as connection:
                await connection.fetchval("SELECT 1")

        async with db.raw():
            waiting = asyncio.create_task(ask())
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.wait_for(ask(), 20)


async def test_plans_are_kept_and_units_of_work_plan_as_ever(target: Target) -> None:
    async with probe_database(target) as db:
        async with db.raw() as connection:
            assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        async with db.listener() as connection:
            assert await connection.fetchval("SHOW plan_cache_mode") == "auto"

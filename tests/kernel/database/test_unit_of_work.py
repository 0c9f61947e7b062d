"""Units of work: committed or rolled back as a whole, with a timeout on every wait."""

import asyncio

import pytest
from sqlalchemy import func, select, text

from aitbc.kernel.database.idempotency import IdempotencyKey, IdempotencyKeyReused
from aitbc.kernel.database.pipeline import Transaction
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import Conflict, NotFound, Unavailable
from aitbc.kernel.primitives.ids import new_id
from aitbc.kernel.primitives.request_id import request_id
from aitbc.server.admin.operations import EventNotDead
from tests.kernel.probe import ThingCounted, ThingRow, probe_database


async def test_what_a_block_did_is_gone_when_it_fails(target: Target) -> None:
    async with probe_database(target) as db:
        with pytest.raises(RuntimeError, match="on purpose"):  # noqa: PT012
            async with db.unit_of_work() as uow:
                uow.add(ThingRow(id=new_id("thing"), name="lost"))
                uow.publish(ThingCounted(thing="lost"))
                await uow.audit("acct", "key", "thing.add", "lost")
                await uow.session.flush()
                raise RuntimeError("on purpose")
        async with db.reading() as session:
            assert await session.scalar(select(ThingRow).where(ThingRow.name == "lost")) is None
            assert await session.scalar(text("SELECT count(*) FROM probe.outbox WHERE body LIKE '%lost%'")) == 0
            assert await session.scalar(text("SELECT count(*) FROM probe.audit WHERE object = 'lost'")) == 0


async def test_a_row_is_found_by_its_text_id_and_malformed_ids_are_unknown(target: Target) -> None:
    async with probe_database(target) as db:
        thing = new_id("thing")
        async with db.unit_of_work() as uow:
            uow.add(ThingRow(id=thing, name="found"))
        async with db.unit_of_work() as uow:
            assert (await uow.find(ThingRow, thing, lock=True)).name == "found"
            for other in (new_id("thing"), "thing_", "job_" + thing[6:], "\x00", thing.upper()):
                with pytest.raises(NotFound):
                    await uow.find(ThingRow, other)


async def test_a_second_transaction_inside_a_transaction_is_refused(target: Target) -> None:
    async with probe_database(target) as db:
        with pytest.raises(AssertionError, match="finish it first"):
            async with db.unit_of_work(), db.raw_transaction():
                pass


async def test_a_task_that_is_cancelled_while_it_commits_ends_as_cancelled(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(_: Transaction) -> None:
        raise asyncio.CancelledError

    async with probe_database(target) as db:
        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "commit", interrupted)
            with pytest.raises(asyncio.CancelledError):
                async with db.raw_transaction() as connection:
                    await connection.execute("SELECT 1")
        async with db.raw_transaction() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_constraint_answers_as_a_conflict(target: Target) -> None:
    async with probe_database(target) as db:
        async with db.unit_of_work() as uow:
            uow.add(ThingRow(id=new_id("thing"), name="twice"))
        with pytest.raises(Conflict):
            async with db.unit_of_work() as uow:
                uow.add(ThingRow(id=new_id("thing"), name="twice"))


async def test_a_full_pool_answers_unavailable_in_time(target: Target) -> None:
    async with probe_database(target, pool_size=1, acquire_seconds=0.2) as db:

        async def hog() -> None:
            async with db.reading() as session:
                await session.execute(text("SELECT pg_sleep(0.8)"))

        task = asyncio.create_task(hog())
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable):
            async with db.reading() as session:
                await session.execute(select(func.now()))
        await task


async def test_connections_that_the_server_ended_while_they_waited_are_made_anew(target: Target) -> None:
    ended = text("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(:pids)")
    async with probe_database(target, pool_size=3) as db:
        barrier = asyncio.Barrier(3)

        async def hold() -> int:
            async with db.reading() as session:
                pid = int(await session.scalar(text("SELECT pg_backend_pid()")) or 0)
                await barrier.wait()
                return pid

        async with db.raw() as connection:
            hot = await connection.fetchval("SELECT pg_backend_pid()")
        pids = [hot, *await asyncio.gather(hold(), hold(), hold())]
        async with db.listener() as other:
            await other.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids)
        await asyncio.sleep(0.3)  # until the ends of the connections have been read
        for _ in range(3):
            async with db.unit_of_work() as uow:
                assert await uow.session.scalar(ended, {"pids": pids}) == 0
        async with db.raw() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_statement_past_its_time_is_ended(target: Target) -> None:
    async with probe_database(target, statement_seconds=0.2) as db:
        with pytest.raises(Unavailable):
            async with db.reading() as session:
                await session.execute(text("SELECT pg_sleep(5)"))


async def test_a_repeated_command_gets_the_stored_answer_and_acts_once(target: Target) -> None:
    async with probe_database(target) as db:
        acts = 0

        async def command(once: IdempotencyKey) -> ThingCounted:
            nonlocal acts
            async with db.unit_of_work() as uow:
                if earlier := await uow.replay(once, ThingCounted):
                    return earlier
                acts += 1
                return await uow.answer(once, ThingCounted(thing=f"number {acts}"))

        first, second = (IdempotencyKey("acct_a", "key", b"same"), IdempotencyKey("acct_a", "key", b"same"))
        assert await command(first) == await command(second)
        assert (acts, first.replayed, second.replayed) == (1, False, True)
        with pytest.raises(IdempotencyKeyReused):
            await command(IdempotencyKey("acct_a", "key", b"other"))
        assert (await command(IdempotencyKey("acct_b", "key", b"same"))).thing == "number 2"


async def test_twins_in_two_processes_have_one_effect(target: Target) -> None:
    async with probe_database(target, pool_size=5) as db:
        acts = 0

        async def command() -> ThingCounted:
            nonlocal acts
            once = IdempotencyKey("acct_a", "twins", b"same")
            async with db.unit_of_work() as uow:
                if earlier := await uow.replay(once, ThingCounted):
                    return earlier
                acts += 1
                await asyncio.sleep(0.05)
                return await uow.answer(once, ThingCounted(thing=f"number {acts}"))

        answers = await asyncio.gather(*(command() for _ in range(10)))
        assert acts == 1
        assert {answer.thing for answer in answers} == {"number 1"}


async def test_a_failed_first_try_leaves_the_key_free(target: Target) -> None:
    async with probe_database(target) as db:
        with pytest.raises(EventNotDead):  # noqa: PT012
            async with db.unit_of_work() as uow:
                await uow.replay(IdempotencyKey("acct_a", "failed", b"same"), ThingCounted)
                raise EventNotDead
        async with db.unit_of_work() as uow:
            assert await uow.replay(IdempotencyKey("acct_a", "failed", b"other"), ThingCounted) is None


async def test_the_database_sees_which_request_a_transaction_belongs_to(target: Target) -> None:
    async with probe_database(target) as db:
        token = request_id.set("req_of_a_test")
        try:
            async with db.unit_of_work() as uow:
                name = await uow.session.scalar(text("SELECT current_setting('application_name')"))
        finally:
            request_id.reset(token)
        assert name == "aitbc probe req_of_a_test"
        async with db.reading() as session:
            assert await session.scalar(text("SELECT current_setting('application_name')")) == "aitbc probe"

"""The life of a job: every state and every clock, whichever way the data is reached."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.kernel.database.migrations import Part, differences
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.api import Clocks, LeaseLost, LogLine
from aitbc.modules.ai.models.life import ALLOWED, OPEN, TERMINAL, IllegalMove, State
from aitbc.modules.ai.models.tables import Base
from tests.modules.ai.make import ADMIN, AITBC, Worker, a_key, ai_on, embedding
from tests.modules.ai.test_kinds import whole_png


async def test_models_and_migrations_agree(owner: Target) -> None:
    assert await differences(owner, [Part("ai", Base.metadata)]) == []


def test_terminal_states_never_change() -> None:
    assert set(ALLOWED) == set(State)
    assert all(ALLOWED[state] == frozenset() for state in TERMINAL)
    assert set(State) == TERMINAL | OPEN


async def test_a_job_is_submitted_leased_worked_on_delivered_and_paid(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, texts=3)
        assert await market.state(job) == "queued"
        assert market.trading.holds["hold_" + job[4:]].amount_units == 5_000_000
        lease = await miner.take()
        assert (lease.job, lease.token, lease.number, lease.kind) == (job, 1, 1, "embed")
        assert await market.state(job) == "leased"
        assert await miner.renew(lease, 0.5) == "live"
        assert await market.state(job) == "running"
        outcome = await miner.deliver(lease)
        assert (outcome.state, outcome.price, outcome.earned) == ("succeeded", "0.0000018", "0.00000175")
        assert outcome.receipt == "rcpt_" + job[4:]
        detail = await market.ai.jobs.get(alice, job)
        assert detail.price == "0.0000018"
        assert (detail.units, detail.unit) == (18, "byte")
        assert detail.created_at <= detail.started_at <= detail.completed_at  # type: ignore[operator]
        assert [(a.number, a.state, a.fault) for a in detail.history] == [(1, "succeeded", "none")]
        await market.require_sound()


async def test_a_result_may_come_before_any_sign_of_work(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        await market.submit(market.person())
        assert (await miner.deliver(await miner.take())).state == "succeeded"
        await market.require_sound()


async def test_nobody_takes_a_job_in_time_and_it_expires_with_its_money_back(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person(AITBC)
        job = await market.submit(alice, clocks={"queue_seconds": 60})
        await market.later(59)
        assert await market.state(job) == "queued"
        await market.later(2)
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.reason) == ("expired", "queue_timeout")
        assert market.trading.available[alice.account] == AITBC
        await market.require_sound()


async def test_a_lease_without_a_sign_of_work_is_lost_by_the_start_clock(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, clocks={"start_seconds": 10})
        lease = await miner.take()
        await market.later(13)
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.reason, found.attempts) == ("queued", "retrying", 1)
        assert (found.history[0].state, found.history[0].reason, found.history[0].fault) == (
            "lost",
            "not_started",
            "miner",
        )
        with pytest.raises(LeaseLost):
            await miner.deliver(lease)
        await market.require_sound()


async def test_a_silent_miner_loses_its_lease_and_another_finishes(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, silent, other = market.person(), Worker(market), Worker(market)
        job = await market.submit(alice)
        stale = await silent.take()
        assert await silent.renew(stale) == "live"
        await market.later(29)
        assert await silent.renew(stale) == "live"
        await market.later(33)
        assert await market.state(job) == "queued"
        fresh = await other.take()
        assert fresh.token == 2
        with pytest.raises(LeaseLost):
            await silent.deliver(stale)
        assert await silent.renew(stale) == "lost"
        assert (await other.deliver(fresh)).state == "succeeded"
        assert market.trading.paid[job].miner == other.id
        await market.require_sound()


async def test_a_partition_shorter_than_the_lease_restarts_nothing(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        await market.submit(market.person())
        lease = await miner.take()
        await miner.renew(lease)
        await market.later(25)
        assert await miner.renew(lease) == "live"
        assert (await miner.deliver(lease)).state == "succeeded"


async def test_a_long_job_that_is_renewed_is_never_taken_away(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person(), clocks={"run_seconds": 3600})
        lease = await miner.take()
        for _ in range(60):
            await market.later(25)
            assert await miner.renew(lease) == "live"
        assert await market.state(job) == "running"
        assert (await miner.deliver(lease)).state == "succeeded"


async def test_the_run_clock_ends_an_attempt_even_if_it_is_renewed(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, clocks={"run_seconds": 40}, retry={"attempts_max": 1})
        lease = await miner.take()
        for _ in range(4):
            await market.later(10)
            assert await miner.renew(lease) == "live"
        await market.later(3)
        assert await miner.renew(lease) == "lost"
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.reason, found.fault) == ("failed", "attempts_exhausted", "unknown")
        assert found.history[0].reason == "run_timeout"
        await market.require_sound()


def test_results_are_kept_for_a_week_unless_somebody_says_otherwise() -> None:
    assert Clocks().retention_seconds >= 7 * 24 * 3600


async def test_input_and_output_go_after_their_retention_and_the_job_stays(owner: Target, tmp_path: Path) -> None:
    async with ai_on(owner, state_dir=tmp_path) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, clocks={"retention_seconds": 100})
        await miner.deliver(await miner.take())
        clock.move(timedelta(seconds=99))
        await market.ai.tidy()
        assert b"vectors" in bytes((await market.ai.jobs.get(alice, job)).output)
        clock.move(timedelta(seconds=2))
        await market.ai.tidy()
        found = await market.ai.jobs.get(alice, job)
        assert bytes(found.output) == bytes(found.input) == b"null"
        assert (found.state, found.price, found.kept_until) == ("succeeded", "0.0000006", None)

        secret = "a tide that nobody may read"
        job = await market.submit(alice, value={"texts": [secret]}, clocks={"retention_seconds": 0})
        lease = await miner.take()
        await miner.fail(lease, "unknown", message=f"Its standard error ended: {secret}")
        await market.later(2)
        lease = await miner.take()
        await market.ai.log(miner.id, lease.attempt, lease.token, [LogLine(sequence=1, at=clock.now(), text=secret)])

        async def content() -> AsyncIterator[bytes]:
            yield value.encode()

        value = msgspec.json.encode(
            embedding(1) | {"vectors": [[0.123456789, 0.5, 0.25, 0.125]], "note": secret}
        ).decode()
        kept = await market.ai.artifacts.store(miner.principal, content(), lease.attempt, len(value))
        assert any(path.is_file() for path in (tmp_path / "artifacts").rglob("*"))
        await miner.deliver(lease, {"artifact": kept.id, "digest": kept.digest, "bytes": kept.bytes})
        assert await market.state(job) == "succeeded"
        await market.ai.tidy()
        assert not [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
        tables = await market.sql(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'ai'"
        )
        for table in tables:
            told = str(await market.sql(f"SELECT t::text AS row FROM {table['name']} t"))
            assert secret not in told and "0.123456789" not in told, table["name"]


@pytest.mark.parametrize("at", ["queued", "leased", "running"])
async def test_an_owner_cancels_a_job_wherever_it_is(owner: Target, at: str) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(AITBC), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take() if at != "queued" else None
        if at == "running" and lease is not None:
            await miner.renew(lease)
        canceled = await market.ai.stops.cancel(alice, job, a_key(alice))
        assert (canceled.state, canceled.reason) == ("canceled", "canceled_by_owner")
        assert market.trading.available[alice.account] == AITBC
        if lease is not None:
            assert await miner.renew(lease) == "canceled"
            with pytest.raises(LeaseLost):
                await miner.deliver(lease)
        assert (await market.ai.stops.cancel(alice, job, a_key(alice))).state == "canceled"
        await market.require_sound()


async def test_an_operator_cancels_and_it_is_noted(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        job = await market.submit(alice)
        assert (await market.ai.stops.cancel(ADMIN, job, a_key(ADMIN))).reason == "canceled_by_operator"
        (entry,) = await market.sql("SELECT action, object, account FROM ai.audit")
        assert (entry["action"], entry["object"], entry["account"]) == ("job.cancel", job, ADMIN.account)


async def test_a_finished_job_cannot_be_canceled(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        await miner.deliver(await miner.take())
        with pytest.raises(IllegalMove):
            await market.ai.stops.cancel(alice, job, a_key(alice))


async def test_the_requesters_fault_ends_the_job_at_once(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, kind="command", value={"program": "wc"})
        await miner.fail(await miner.take(), "requester", "exit_nonzero")
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.reason, found.fault, found.attempts) == ("failed", "requester_fault", "requester", 1)
        await market.require_sound()


async def test_the_requesters_fault_is_tried_again_when_that_was_asked_for(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        retry = {"attempts_max": 2, "requester_faults": True}
        job = await market.submit(market.person(), kind="command", value={"program": "wc"}, retry=retry)
        await miner.fail(await miner.take(), "requester")
        assert await market.state(job) == "queued"
        clock.move(timedelta(seconds=2))
        await miner.fail(await miner.take(), "requester")
        assert await market.state(job) == "failed"


async def test_a_miner_is_not_believed_where_the_platform_checked_the_request(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        await miner.fail(await miner.take(), "requester")
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.history[0].fault) == ("queued", "unknown")


async def test_a_request_is_to_blame_when_a_second_miner_of_another_account_says_so_too(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, first, kin, second = market.person(), Worker(market), Worker(market), Worker(market)
        kin.account = first.account
        job = await market.submit(alice)
        for miner, state, fault in (
            (first, "queued", "unknown"),
            (kin, "queued", "unknown"),
            (second, "failed", "requester"),
        ):
            clock.move(timedelta(seconds=4))
            lease = await miner.take()
            await miner.fail(lease, "requester", "invalid_input", "It cannot be decoded.")
            await miner.fail(lease, "requester", "invalid_input", "It cannot be decoded.")  # sent again
            found = await market.ai.jobs.get(alice, job)
            assert (found.state, found.history[-1].fault) == (state, fault)
        assert (found.reason, found.fault, found.attempts) == ("requester_fault", "requester", 3)
        await market.require_sound()


@pytest.mark.parametrize(("damaged", "state", "fault"), [(True, "failed", "requester"), (False, "queued", "unknown")])
@pytest.mark.parametrize("as_file", [True, False])
async def test_a_picture_that_the_platform_finds_damaged_itself_needs_no_second_word(
    owner: Target, tmp_path: Path, damaged: bool, state: str, fault: str, as_file: bool
) -> None:
    async with ai_on(owner, state_dir=tmp_path) as market:
        alice, miner = market.person(), Worker(market)
        content = whole_png(20, 20, lines=10 if damaged else 20)
        image: Any = base64.b64encode(content).decode()
        if as_file:
            image = {"artifact": (await market.ai.artifacts.store(alice, _pieces(content), None)).id}
        job = await market.submit(alice, kind="ocr", value={"image": image})
        await miner.fail(await miner.take(), "requester", "invalid_input", "It cannot be decoded.")
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.history[0].fault) == (state, fault)
        await market.require_sound()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_who_blames_a_request_leaves_the_next_attempt_to_another(owner: Target) -> None:
    async with ai_on(owner) as market:
        accuser, other = Worker(market), Worker(market)
        await market.submit(market.person())
        await accuser.fail(await accuser.take(), "requester")
        clock.move(timedelta(seconds=4))
        assert await accuser.claim() == []
        assert len(await other.claim()) == 1


async def test_a_miners_fault_sends_the_job_elsewhere_at_once(owner: Target) -> None:
    async with ai_on(owner) as market:
        bad, good = Worker(market), Worker(market)
        job = await market.submit(market.person())
        await bad.fail(await bad.take(), "miner")
        assert await bad.claim() == []
        lease = await good.take()
        assert (lease.job, lease.token) == (job, 2)
        await good.fail(lease, "miner")
        clock.move(timedelta(seconds=31))
        assert (await bad.deliver(await bad.take())).state == "succeeded"  # nobody else was there for half a minute
        await market.require_sound()


async def test_an_unknown_fault_waits_longer_each_time(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person(), retry={"attempts_max": 4})
        for pause in (1.0, 2.0, 4.0):
            await miner.fail(await miner.take(), "unknown")
            clock.move(timedelta(seconds=pause * 0.7))
            assert await miner.claim() == []
            clock.move(timedelta(seconds=pause * 0.3))
        await miner.fail(await miner.take(), "unknown")
        assert await market.state(job) == "failed"
        await market.require_sound()


async def test_the_platforms_fault_and_leases_given_back_do_not_count(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, retry={"attempts_max": 1}, clocks={"queue_seconds": 3600})
        for turn in range(10):
            lease = await miner.take()
            if turn % 2:
                await market.ai.release(miner.id, lease.attempt, lease.token, "draining")
            else:
                await miner.fail(lease, "platform")
            clock.move(timedelta(seconds=61))
        lease = await miner.take()
        assert lease.token == 11
        await miner.deliver(lease)
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.attempts, len(found.history)) == ("succeeded", 0, 11)
        await market.require_sound()


async def test_leases_that_never_count_are_bounded_all_the_same(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person(), clocks={"queue_seconds": 36_000})
        for _ in range(21):
            await miner.fail(await miner.take(), "platform")
            clock.move(timedelta(seconds=61))
        assert await market.state(job) == "failed"
        await market.require_sound()


async def test_the_last_deadline_bounds_all_attempts(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, clocks={"queue_seconds": 100, "run_seconds": 50}, retry={"attempts_max": 2})
        for _ in range(3):
            await miner.fail(await miner.take(), "platform")
            clock.move(timedelta(seconds=95))
            await market.ai.sweep()
        clock.move(timedelta(seconds=20))
        await market.ai.sweep()
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.reason) == ("expired", "deadline_passed")
        await market.require_sound()

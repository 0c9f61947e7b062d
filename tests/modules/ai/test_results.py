"""Results: who may bring them, what they are worth, and what happens when several things happen at once."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.kernel.crypto.signing import Key, value_digest
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Forbidden
from aitbc.kernel.primitives.request_id import request_id
from aitbc.modules.ai.api import Lease, LeaseLost, LogLine, OutputTooLarge, WrongDigest, WrongSignature
from aitbc.modules.ai.events import JobSucceeded
from aitbc.modules.ai.service.uploads import ArtifactQuotaExceeded, ArtifactTooLarge
from aitbc.modules.trading.api import SettleHold
from tests.modules.ai.make import AITBC, Worker, a_key, ai_on, embedding


async def test_a_result_sent_again_is_settled_once_and_answered_the_same(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        await market.submit(market.person())
        result = miner.result(await miner.take())
        answers = await asyncio.gather(*(market.ai.complete(result) for _ in range(10)))
        answers.append(await market.ai.complete(result))
        assert len({(a.state, a.receipt, a.price, a.earned) for a in answers}) == 1
        assert len(market.trading.settlements) == 1
        assert len(await market.sql("SELECT id FROM ai.outbox WHERE kind = 'ai.job_succeeded'")) == 1


async def test_what_the_direct_way_paid_is_not_told_again(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        for _ in range(2):
            await market.submit(alice)
        first, second = await miner.claim(slots=2)
        await miner.deliver(first)
        market.trading.closed = True
        await miner.deliver(second)
        events = await market.sql(
            "SELECT body::json->>'attempt' AS attempt, delivered_at FROM ai.outbox WHERE kind = 'ai.job_succeeded'"
        )
        assert {row["attempt"]: row["delivered_at"] is not None for row in events} == {
            first.attempt: True,
            second.attempt: False,
        }


async def test_what_is_told_of_many_results_at_once_names_the_request_of_each(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        for _ in range(4):
            await market.submit(alice)
        leases = await miner.claim(slots=4)

        async def deliver(lease: Lease) -> None:
            request_id.set(f"req_{lease.attempt}")
            await miner.deliver(lease)

        await asyncio.gather(*(deliver(lease) for lease in leases))
        told = await market.sql("SELECT kind, body::json->>'attempt' AS attempt, request_id FROM ai.outbox")
        assert {(row["kind"], row["attempt"], row["request_id"]) for row in told} == {
            (kind, lease.attempt, f"req_{lease.attempt}")
            for lease in leases
            for kind in ("ai.job_succeeded", "ai.attempt_ended")
        }


async def test_a_second_other_result_for_an_attempt_is_refused(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        await market.submit(market.person())
        lease = await miner.take()
        await miner.deliver(lease)
        with pytest.raises(LeaseLost):
            await miner.deliver(lease, embedding(1) | {"model": "other"})


async def test_a_strangers_result_is_refused(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner, thief = Worker(market), Worker(market)
        job = await market.submit(market.person())
        lease = await miner.take()
        for attempt in (lease.attempt, ids.new_id("att"), "att_rubbish", lease.job):
            with pytest.raises(LeaseLost):
                await thief.deliver(msgspec.structs.replace(lease, attempt=attempt))
        with pytest.raises(LeaseLost):
            await miner.deliver(msgspec.structs.replace(lease, token=2))
        assert await market.state(job) == "leased"


async def test_another_key_another_digest_and_an_altered_output_are_refused(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        lease = await miner.take()
        with pytest.raises(WrongSignature):
            await miner.deliver(lease, miner_key=Key.generate().public)
        with pytest.raises(WrongSignature):
            await miner.deliver(lease, signature="rubbish")
        with pytest.raises(WrongDigest):
            await miner.deliver(lease, output_digest=value_digest("something else"))
        with pytest.raises(OutputTooLarge):
            await miner.deliver(lease, embedding(1) | {"more": "x" * 70_000})
        assert await market.state(job) == "leased"
        assert market.trading.settlements == {}
        assert (await miner.deliver(lease)).state == "succeeded"


@pytest.mark.parametrize(
    "output",
    [
        "text",
        {"vectors": []},
        embedding(2),
        embedding(1) | {"dimensions": 3},
        {"model": "m", "dimensions": 1, "vectors": [["a"]]},
        {"artifact": "art_00000000000000000000000000"},
    ],
)
async def test_an_output_of_the_wrong_shape_is_the_miners_fault(owner: Target, output: Any) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        outcome = await miner.deliver(await miner.take(), output)
        assert (outcome.state, outcome.receipt) == ("queued", None)
        (attempt,) = (await market.ai.jobs.get(alice, job)).history
        assert (attempt.state, attempt.fault, attempt.reason) == ("failed", "miner", "invalid_output")
        assert attempt.message
        await market.require_sound()


async def test_the_platform_counts_and_the_miners_count_is_only_noted(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        value = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}
        job = await market.submit(alice, kind="chat", value=value)
        output = {"message": {"role": "assistant", "content": "hi!"}, "model": "m", "finish_reason": "stop"}
        outcome = await miner.deliver(await miner.take(), output, usage={"completion_tokens": 100_000})
        found = await market.ai.jobs.get(alice, job)
        assert (found.units, outcome.price) == (8, "0.0000016")
        assert found.history[0].note is not None and "100000" in found.history[0].note
        assert found.history[0].reason == "overcounted"


@pytest.mark.parametrize(("tokens", "reason"), [(3, "completed"), (19, "completed"), (20, "overcounted")])
async def test_a_miners_count_is_taken_for_rounding_up_to_a_quarter_and_sixteen_more(
    owner: Target, tokens: int, reason: str
) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        value = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
        job = await market.submit(alice, kind="chat", value=value)
        output = {"message": {"role": "assistant", "content": "hi!"}, "model": "m", "finish_reason": "stop"}
        await miner.deliver(await miner.take(), output, usage={"completion_tokens": tokens})
        found = await market.ai.jobs.get(alice, job)
        assert (found.history[0].reason, found.history[0].note is None) == (reason, tokens == 3)
        (event,) = await market.sql(
            "SELECT body::json->>'reason' AS reason FROM ai.outbox WHERE kind = 'ai.attempt_ended'"
        )
        assert event["reason"] == reason


async def test_an_endless_answer_is_paid_no_further_than_was_allowed(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        value = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        job = await market.submit(alice, kind="chat", value=value)
        output = {"message": {"role": "assistant", "content": "y" * 5000}, "model": None, "finish_reason": None}
        await miner.deliver(await miner.take(), output)
        assert (await market.ai.jobs.get(alice, job)).units == 5 + 32


async def test_a_command_is_paid_by_the_seconds_the_platform_saw(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, kind="command", value={"program": "wc"}, clocks={"run_seconds": 60})
        lease = await miner.take()
        clock.move(timedelta(seconds=12.5))
        output = {"exit_code": 0, "stdout": "1\x00", "stderr": "", "truncated": False}
        await miner.deliver(lease, output, usage={"milliseconds": 900_000})
        found = await market.ai.jobs.get(alice, job)
        assert (found.units, found.unit, found.price) == (13, "second", "0.0013")
        assert found.history[0].note is not None


async def test_payment_waits_for_the_ledger_and_the_result_does_not(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        lease = await miner.take()
        market.trading.closed = True
        outcome = await miner.deliver(lease)
        assert (outcome.state, outcome.receipt, outcome.earned) == ("succeeded", "rcpt_" + job[4:], None)
        assert len(await market.sql("SELECT id FROM ai.outbox WHERE kind = 'ai.job_succeeded'")) == 1
        market.trading.closed = False
        assert (await miner.deliver(lease)).earned is not None


@pytest.mark.parametrize("seed", range(6))
async def test_result_cancel_fail_and_expiry_at_once_have_one_winner(owner: Target, seed: int) -> None:
    chance = random.Random(seed)
    async with ai_on(owner) as market:
        alice, miner = market.person(AITBC), Worker(market)
        for _ in range(5):
            job = await market.submit(alice)
            lease = await miner.take()
            clock.move(timedelta(seconds=40))
            rivals = [
                miner.deliver(lease),
                market.ai.stops.cancel(alice, job, a_key(alice)),
                market.ai.sweeper.end_lost_leases(),
                miner.fail(lease, "unknown"),
                market.ai.release(miner.id, lease.attempt, lease.token, "draining"),
            ]
            chance.shuffle(rivals)
            outcomes = await asyncio.gather(*rivals, return_exceptions=True)
            assert all(not isinstance(o, Exception) or isinstance(o, AppError) for o in outcomes), outcomes
            (ends,) = await market.sql(
                "SELECT count(*) FROM ai.attempts WHERE id = $1 AND ended IS NOT NULL", _uuid(lease)
            )
            assert ends["count"] == 1
            if await market.state(job) == "queued":
                await market.ai.stops.cancel(alice, job, a_key(alice))
            await market.require_sound()
        assert market.trading.total == AITBC


def _uuid(lease: Any) -> Any:
    return ids.decode("att", lease.attempt)


@pytest.mark.parametrize("jobs", [300])
async def test_fifty_miners_with_random_losses_complete_each_job_once(owner: Target, jobs: int) -> None:
    chance = random.Random(20)
    async with ai_on(owner) as market:
        alice = market.person(1000 * AITBC)
        wishes: dict[str, Any] = {"clocks": {"queue_seconds": 36_000}, "retry": {"attempts_max": 10}}
        await asyncio.gather(*(market.submit(alice, **wishes) for _ in range(jobs)))
        seen: list[tuple[str, int]] = []

        async def work(miner: Worker) -> None:
            late: list[Any] = []
            while True:
                (left,) = await market.sql("SELECT count(*) FROM ai.jobs WHERE completed_at IS NULL")
                if not left["count"]:
                    return
                for lease in await miner.claim(slots=chance.randint(1, 4), wait_seconds=0.02):
                    seen.append((lease.job, lease.token))
                    match chance.random():
                        case x if x < 0.15:
                            late.append(lease)  # the miner dies; a zombie may come back
                        case x if x < 0.25:
                            await _quietly(miner.fail(lease, chance.choice(["miner", "platform"])))
                        case _:
                            await _quietly(miner.deliver(lease))
                if late and chance.random() < 0.5:
                    await _quietly(miner.deliver(late.pop()))

        async def time_passes() -> None:
            while True:
                await asyncio.sleep(0.1)
                await market.later(20)

        clockwork = asyncio.create_task(time_passes())
        try:
            await asyncio.gather(*(work(Worker(market)) for _ in range(50)))
        finally:
            clockwork.cancel()
        assert len(seen) == len(set(seen))  # no lease was given to two
        states = await market.sql("SELECT state, count(*) FROM ai.jobs GROUP BY state")
        assert {row["state"]: row["count"] for row in states} == {"succeeded": jobs}
        assert len(market.trading.settlements) == jobs
        assert market.trading.total == 1000 * AITBC
        await market.require_sound()


async def _quietly(work: Any) -> None:
    with suppress(LeaseLost):
        await work


async def test_a_payload_that_no_longer_decodes_ends_and_the_queue_moves_on(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        spoilt, good = await market.submit(alice), await market.submit(alice)
        await market.sql("UPDATE ai.jobs SET input = '{broken' WHERE id = $1", ids.decode("job", spoilt))
        leases = await miner.claim(slots=2)
        assert [lease.job for lease in leases] == [good]
        found = (await market.sql("SELECT state, reason FROM ai.jobs WHERE id = $1", ids.decode("job", spoilt)))[0]
        assert (found["state"], found["reason"]) == ("failed", "undecodable")
        assert len(await market.sql("SELECT id FROM ai.outbox WHERE kind = 'ai.job_closed'")) == 1


async def test_a_large_output_is_an_artifact_delivered_under_the_lease(owner: Target, tmp_path: Path) -> None:
    async with ai_on(owner, state_dir=tmp_path) as market:
        alice, miner, other = market.person(), Worker(market), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take()
        content = msgspec.json.encode(embedding(1) | {"more": "x" * 100_000})
        with pytest.raises(LeaseLost):
            await market.ai.artifacts.store(other.principal, _once(content), lease.attempt)
        with pytest.raises(Forbidden):
            await market.ai.artifacts.store(miner.principal, _once(content), None)
        kept = await market.ai.artifacts.store(miner.principal, _once(content), lease.attempt)
        assert (await miner.deliver(lease, {"artifact": kept.id, "digest": kept.digest})).state == "succeeded"
        found = await market.ai.jobs.get(alice, job)
        assert found.units == 6
        assert msgspec.json.decode(bytes(found.output)) == {"artifact": kept.id, "digest": kept.digest}
        _, pieces = await market.ai.artifacts.open(alice, kept.id)
        assert b"".join(pieces) == content


async def test_an_artifact_of_another_lease_is_no_output(owner: Target, tmp_path: Path) -> None:
    async with ai_on(owner, state_dir=tmp_path) as market:
        alice, miner = market.person(), Worker(market)
        await market.submit(alice)
        await market.submit(alice)
        first, second = await miner.claim(slots=2)
        kept = await market.ai.artifacts.store(miner.principal, _once(msgspec.json.encode(embedding(1))), first.attempt)
        outcome = await miner.deliver(second, {"artifact": kept.id, "digest": kept.digest})
        assert outcome.state == "queued"


async def test_artifacts_are_bounded_kept_once_and_removed(owner: Target, tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "artifact_bytes_max": 1000,
        "artifact_quota_bytes": 2000,
        "artifact_retention_seconds": 60,
    }
    async with ai_on(owner, state_dir=tmp_path, **limits) as market:
        alice, bob = market.person(), market.person()
        with pytest.raises(ArtifactTooLarge):
            await market.ai.artifacts.store(alice, _once(b"x" * 1001), None)
        kept = await market.ai.artifacts.store(alice, _once(b"x" * 1000), None)
        assert (await market.ai.artifacts.store(alice, _once(b"x" * 1000), None)).id == kept.id
        await market.ai.artifacts.store(alice, _once(b"y" * 1000), None)
        with pytest.raises(ArtifactQuotaExceeded):
            await market.ai.artifacts.store(alice, _once(b"z"), None)
        same = await market.ai.artifacts.store(bob, _once(b"x" * 1000), None)
        assert (same.id != kept.id, same.digest) == (True, kept.digest)
        assert len(files_in(tmp_path)) == 2
        clock.move(timedelta(seconds=30))
        await market.ai.artifacts.store(bob, _once(b"x" * 1000), None)
        clock.move(timedelta(seconds=31))
        await market.ai.tidy()
        assert files_in(tmp_path) == [kept.digest.removeprefix("sha256:")]
        _, pieces = await market.ai.artifacts.open(bob, same.id)
        assert b"".join(pieces) == b"x" * 1000


def files_in(folder: Path) -> list[str]:
    """The names of all files under a folder."""
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def _once(content: bytes) -> Any:
    yield content


async def test_log_lines_are_kept_once_cleaned_and_cut(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take()

        def line(number: int, text: str) -> LogLine:
            return LogLine(sequence=number, at=now(), text=text)

        async def tell(*lines: LogLine) -> int:
            return await market.ai.log(miner.id, lease.attempt, lease.token, lines)

        assert await tell(line(1, "one"), line(2, "nul\x00 esc\x1b[31m \u202e")) == 2
        assert await tell(line(1, "again"), line(3, "z" * 10_000_000)) == 3
        lines = await market.ai.job_logs.page(alice, job, after=None, limit=10)
        assert [(at.attempt, at.sequence) for at in lines] == [(1, 1), (1, 2), (1, 3)]
        assert lines[1].text == "nul\ufffd esc\ufffd[31m \ufffd"
        assert len(lines[2].text) == 4096 and lines[2].text.endswith("(cut)")
        assert await market.state(job) == "running"
        assert [at.sequence for at in await market.ai.job_logs.page(alice, job, after=(1, 2), limit=10)] == [3]
        assert await tell(line(10_000, "last"), line(10_001, "over")) == 10_001
        assert "no more than" in (await market.ai.job_logs.page(alice, job, after=(1, 3), limit=10))[-1].text
        await miner.deliver(lease)
        with pytest.raises(LeaseLost):
            await tell(line(20_000, "late"))


async def test_a_time_that_no_clock_shows_is_not_kept(owner: Target) -> None:
    last, first = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take()
        lines = [LogLine(sequence=number, at=at, text="x") for number, at in enumerate((last, first), 1)]
        assert await market.ai.log(miner.id, lease.attempt, lease.token, lines) == 2
        kept = [line.at for line in await market.ai.job_logs.page(alice, job, after=None, limit=10)]
        assert all(abs(at - now()) < timedelta(minutes=1) for at in kept)  # naive ones could not be compared


async def test_a_miner_that_restarts_finds_its_leases_again(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        await market.submit(market.person())
        lease = await miner.take()
        assert list(await market.ai.leases_of(miner.id)) == [lease]
        await miner.deliver(lease)
        assert list(await market.ai.leases_of(miner.id)) == []


async def test_what_is_set_aside_for_a_miner_is_pending_until_it_is_paid(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, other = market.person(), Worker(market), Worker(market)

        async def pending() -> tuple[int, int]:
            told = await market.ai.pending_of(miner.id)
            return told.jobs, told.held_units

        for _ in range(3):
            await market.submit(alice, max_price="0.05")
        one, two = [await miner.take() for _ in range(2)]
        await other.take()
        assert await pending() == (2, 10_000_000)
        await miner.deliver(one)
        assert await pending() == (1, 5_000_000)  # paid at once: the outbox does not know it yet, the ledger does
        market.trading.closed = True
        await miner.deliver(two)
        market.trading.closed = False
        assert await pending() == (1, 5_000_000)
        (event,) = [
            msgspec.json.decode(row["body"], type=JobSucceeded)
            for row in await market.sql("SELECT body FROM ai.outbox WHERE kind = 'ai.job_succeeded'")
            if two.job in row["body"]
        ]
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "job_kind"}
        await market.trading.settle(SettleHold(kind=event.job_kind, **fields))
        assert await pending() == (0, 0)
        assert (await market.ai.pending_of("nonsense")).jobs == 0

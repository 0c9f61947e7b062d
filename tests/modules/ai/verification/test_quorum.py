"""Jobs that are verified: by a quorum of different owners, by a trusted miner, or by samples of what was done."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids, money
from aitbc.modules.ai.api import LeaseLost
from aitbc.modules.ai.models.checks.tiers import VerificationNotOffered
from aitbc.modules.ai.models.views import holds_of
from aitbc.modules.ai.service.submissions import MaxPriceTooLow
from aitbc.modules.trading.api import InsufficientFunds
from tests.modules.ai.make import ADMIN, AITBC, Market, Worker, a_job, a_key, ai_on, embedding

pytestmark = pytest.mark.anyio
GARBAGE = {"model": "tiny", "dimensions": 4, "vectors": [[-0.5, 0.25, 0.5, 0.3]], "weights": "sha256:00"}
ALMOST = {"model": "tiny", "dimensions": 4, "vectors": [[0.5001, -0.2499, 0.125, 1e-7]], "weights": "sha256:00"}


async def submit(market: Market, who: Any, tier: str, **wishes: Any) -> str:
    """A job of one text that is verified."""
    command = a_job(**({"value": {"texts": ["a text"]}, "max_price": "0.05"} | wishes))
    return (await market.ai.submissions.submit(who, replace(command, verification=tier), a_key(who))).id


async def answer_all(market: Market, workers: Sequence[Worker], outputs: Sequence[Any]) -> list[Any]:
    """Each worker takes the job that waits and answers it; what it is told."""
    told = []
    for worker, output in zip(workers, outputs, strict=True):
        told.append(await worker.deliver(await worker.take(), output))
    return told


async def trust(market: Market, worker: Worker) -> Worker:
    """An operator trusts a miner."""
    async with market.ai.db.unit_of_work() as uow:
        await market.ai.fleet_view.apply(uow, [worker.changed()])
    await market.ai.trusted_miners.set(ADMIN, worker.id, is_trusted=True)
    return worker


async def detail(market: Market, who: Any, job: str) -> Any:
    """The job as its owner sees it."""
    found = await market.ai.jobs.get(who, job)
    return replace(found, output=msgspec.json.decode(found.output))


async def test_a_quorum_pays_those_who_agree(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        job = await submit(market, who, "quorum:3")
        assert len([hold for hold in market.trading.holds.values() if hold.state == "open"]) == 3
        workers = [Worker(market) for _ in range(3)]
        total = market.trading.total
        told = await answer_all(market, workers, [GARBAGE, embedding(1), ALMOST])
        assert [one.state for one in told] == ["queued", "queued", "succeeded"]
        done = await detail(market, who, job)
        assert done.state == "succeeded"
        assert done.output["vectors"] == embedding(1)["vectors"]
        assert (done.verification.verdict, done.verification.answers, done.verification.agreeing) == ("valid", 3, 2)
        assert [attempt.state for attempt in done.history] == ["failed", "succeeded", "succeeded"]
        assert (done.history[0].fault, done.history[0].reason) == ("miner", "wrong_result")
        earned = [market.trading.available.get(worker.account, 0) for worker in workers]
        assert earned[0] == 0
        assert earned[1] == earned[2] > 0
        assert money.parse(done.price) == sum(paid.price_units for paid in market.trading.paid.values())
        assert market.trading.total == total
        assert not [hold for hold in market.trading.holds.values() if hold.state == "open"]
        assert {paid.hold for paid in market.trading.paid.values()} == set(holds_of(job, 3)[:2])
        evidence: Any = next(iter(market.trading.paid.values())).verification
        assert [one["agrees"] for one in evidence["answers"]] == [False, True, True]
        await market.require_sound()


async def test_all_of_a_quorum_work_at_the_same_time(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        workers = [Worker(market) for _ in range(3)]
        waits = [asyncio.create_task(worker.claim(wait_seconds=40)) for worker in workers[:2]]
        while len(market.ai.wakeups.miners) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        job = await submit(market, who, "quorum:3")
        async with asyncio.timeout(30):  # one was woken by the submission, and so was the other
            leases = [(await wait)[0] for wait in waits]
        assert await market.state(job) == "queued"
        why = await market.ai.explanations.explain(who, job)
        assert "Of the 3 miners of its quorum 2 have answered or are at work." in why.summary
        leases.append(await workers[2].take())
        assert await market.state(job) == "leased"
        assert {lease.job for lease in leases} == {job}
        assert sorted(lease.token for lease in leases) == [1, 2, 3]
        assert await Worker(market).claim() == []
        for worker, lease in zip(workers, leases, strict=True):
            assert await worker.renew(lease) == "live"
        assert await market.state(job) == "running"
        told = await asyncio.gather(*(one.deliver(lease) for one, lease in zip(workers, leases, strict=True)))
        assert sorted(one.state for one in told) == ["running", "running", "succeeded"]
        done = await detail(market, who, job)
        assert (done.verification.answers, done.verification.agreeing) == (3, 3)
        assert len(market.trading.paid) == 3
        assert not [hold for hold in market.trading.holds.values() if hold.state == "open"]
        await market.require_sound()


async def test_what_a_quorum_loses_another_does_and_what_is_not_wanted_any_more_ends(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person(AITBC)
        job = await submit(market, who, "quorum:2", clocks={"start_seconds": 10})
        one, twin, other = Worker(market), Worker(market), Worker(market)
        twin.account = one.account
        first, second = await asyncio.gather(one.take(), other.take())  # in one batch
        assert await other.renew(second) == "live"
        assert await twin.claim() == []
        await market.later(13)  # the first showed no sign of work
        assert (await market.state(job), await one.renew(first)) == ("queued", "lost")
        assert await other.claim() == []
        third = await twin.take()
        with pytest.raises(LeaseLost):
            await one.deliver(first)
        assert (await other.deliver(second)).verifying
        assert await market.state(job) == "leased"
        canceled = await submit(market, who, "quorum:3")
        live = [await worker.take() for worker in (one, other)]
        await market.ai.stops.cancel(who, canceled, a_key(who))
        assert [await worker.renew(lease) for worker, lease in zip((one, other), live, strict=True)] == ["canceled"] * 2
        assert (await twin.deliver(third)).state == "succeeded"
        short = await submit(market, who, "quorum:2", clocks={"queue_seconds": 60})
        lease = await one.take()
        for _ in range(3):
            await one.renew(lease)
            await market.later(21)
        assert (await market.state(short), await one.renew(lease)) == ("expired", "canceled")
        failing = await submit(market, who, "quorum:2", retry={"attempts_max": 1})
        kept, failed = await one.take(), await other.take()
        assert (await other.fail(failed, "unknown")).state == "failed"
        assert (await market.state(failing), await one.renew(kept)) == ("failed", "canceled")
        await market.ai.sweep()
        assert not [hold for hold in market.trading.holds.values() if hold.state == "open"]
        await market.require_sound()


async def test_miners_of_one_owner_are_never_each_others_quorum(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        job = await submit(market, who, "quorum:2")
        one, twin, other = Worker(market), Worker(market), Worker(market)
        twin.account = one.account
        await one.deliver(await one.take(), GARBAGE)
        assert await twin.claim() == []
        assert await one.claim() == []
        taken = await asyncio.gather(twin.claim(), other.claim(), one.claim())  # also where one statement serves all
        assert [len(leases) for leases in taken] == [0, 1, 0]
        await other.deliver(taken[1][0], embedding(1))
        assert await market.state(job) == "failed"


async def test_who_pays_has_no_vote_and_proves_nothing_to_others(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        own, trusted = Worker(market), await trust(market, Worker(market))
        own.account = who.account
        quorum = await submit(market, who, "quorum:2")
        assert await own.claim() == []
        await market.ai.stops.cancel(who, quorum, a_key(who))
        await submit(market, who, "sampled")
        await own.deliver(await own.take())
        await trusted.deliver(await trusted.take())
        assert [row["miner"] for row in await market.sql("SELECT miner FROM ai.track_records")] == [
            ids.decode("mnr", trusted.id)
        ]


async def test_without_a_majority_nobody_is_paid_and_nobody_blamed(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person(AITBC)
        job = await submit(market, who, "quorum:2")
        workers = [Worker(market) for _ in range(2)]
        told = await answer_all(market, workers, [GARBAGE, embedding(1)])
        assert (told[-1].state, told[-1].price) == ("failed", None)
        done = await detail(market, who, job)
        assert (done.reason, done.price, done.receipt, done.output) == ("no_majority", None, None, None)
        assert {(attempt.state, attempt.fault) for attempt in done.history} == {("failed", "unknown")}
        assert market.trading.available[who.account] == AITBC
        assert await market.sql("SELECT FROM ai.track_records") == []
        await market.require_sound()


async def test_an_answer_may_be_delivered_again(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        await submit(market, who, "quorum:2")
        one, other = Worker(market), Worker(market)
        lease = await one.take()
        first = await one.deliver(lease)
        assert (await one.deliver(lease)) == first
        with pytest.raises(LeaseLost):
            await one.deliver(lease, ALMOST)
        second = await other.take()
        last = await other.deliver(second)
        again = await other.deliver(second)
        assert (last.state, again.state) == ("succeeded", "succeeded")
        assert last.earned is not None
        assert (await one.deliver(lease)).state == "succeeded"
        assert len(market.trading.paid) == 2
        assert len(await market.sql("SELECT FROM ai.outbox WHERE kind = 'ai.attempt_ended'")) == 2


async def test_all_answers_are_held_for_or_none(owner: Target) -> None:
    async with ai_on(owner) as market:
        rich, poor = market.person(), market.person(money.parse("0.02"))
        with pytest.raises(MaxPriceTooLow) as refusal:
            await submit(market, rich, "quorum:3", max_price="0.00000179")  # 3 x 60 minor units are wanted
        assert refusal.value.details["price_max"] == "0.0000018"
        with pytest.raises(InsufficientFunds):
            await submit(market, poor, "quorum:3", max_price="0.03")
        assert market.trading.available[poor.account] == money.parse("0.02")
        assert await market.sql("SELECT FROM ai.jobs") == []
        quote = await market.ai.quotes.quote(rich, replace(a_job(value={"texts": ["a text"]}), verification="quorum:3"))
        assert (quote.price_max, quote.answers_max, quote.sufficient) == ("0.0000018", 3, True)
        assert "the 3 miners that take it" in quote.readable_by[0]
        assert f"until {7 * 86_400} seconds after the end" in quote.readable_by[2]


async def test_what_cannot_be_compared_is_refused(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        with pytest.raises(VerificationNotOffered, match="recheck"):
            await submit(market, who, "quorum:3", kind="chat", value=chat)
        with pytest.raises(VerificationNotOffered, match="Name the model"):
            await submit(market, who, "recheck", kind="chat", value=chat)
        assert market.trading.holds == {}


async def test_a_quorum_that_is_not_filled_gives_all_money_back(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person(AITBC)
        job = await submit(market, who, "quorum:3", clocks={"queue_seconds": 60})
        worker = Worker(market)
        await worker.deliver(await worker.take())
        assert (await market.ai.pending_of(worker.id)).held_units == market.trading.holds[
            holds_of(job, 1)[0]
        ].amount_units
        await market.later(61)
        await market.later(1)
        done = await detail(market, who, job)
        assert (done.state, done.history[0].state, done.history[0].reason) == ("expired", "canceled", "unverified")
        assert market.trading.available[who.account] == AITBC
        assert (await market.ai.pending_of(worker.id)).held_units == 0
        await market.require_sound()


async def test_a_job_that_is_canceled_while_it_is_verified_costs_nothing(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person(AITBC)
        job = await submit(market, who, "quorum:2")
        one, other = Worker(market), Worker(market)
        await one.deliver(await one.take())
        lease = await other.take()
        await market.ai.stops.cancel(who, job, a_key(who))
        with pytest.raises(LeaseLost):
            await other.deliver(lease)
        await market.ai.sweep()
        assert market.trading.available[who.account] == AITBC
        assert await market.sql("SELECT FROM ai.deliveries") == []
        await market.require_sound()


async def test_a_trusted_miner_checks_and_decides(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        trusted = await trust(market, Worker(market))
        for output, states, verdict_answers in (
            (ALMOST, ["succeeded", "succeeded"], 2),
            (GARBAGE, ["failed", "succeeded"], 1),
        ):
            job = await submit(market, who, "recheck")
            one, other = Worker(market), Worker(market)
            await one.deliver(await one.take(), output)
            assert await other.claim() == []  # only a trusted one may check
            await trusted.deliver(await trusted.take(), embedding(1))
            done = await detail(market, who, job)
            assert [attempt.state for attempt in done.history] == states
            assert (done.verification.verdict, done.verification.agreeing) == ("valid", verdict_answers)
            assert done.output["vectors"] == (embedding(1) if output is GARBAGE else ALMOST)["vectors"]
        job = await submit(market, who, "recheck")
        assert (await trusted.deliver(await trusted.take())).state == "succeeded"
        done = await detail(market, who, job)
        assert (done.verification.verdict, len(done.history)) == ("trusted", 1)
        assert not [hold for hold in market.trading.holds.values() if hold.state == "open"]
        await market.require_sound()


async def test_samples_are_drawn_by_what_a_miner_has_proved(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        trusted = await trust(market, Worker(market))
        worker = await trust(market, Worker(market))
        await market.ai.trusted_miners.set(ADMIN, worker.id, is_trusted=False)
        market.ai.answers.chance = lambda: 0.5
        seen = []
        for number in range(12):
            job = await submit(market, who, "sampled")
            await worker.deliver(await worker.take(), GARBAGE if number == 11 else embedding(1))
            if await market.state(job) == "queued":
                await trusted.deliver(await trusted.take(), embedding(1))
            seen.append((await detail(market, who, job)).verification.verdict)
            if number == 10:
                market.ai.answers.chance = lambda: 0.05  # one in ten is drawn from now on
        assert seen == ["valid"] * 10 + ["unchecked", "valid"]
        (record,) = await market.ai.trusted_miners.records(worker.id)
        assert (record.checked, record.wrong, record.valid_in_row, record.check_probability) == (11, 1, 0, 1.0)
        await market.require_sound()


async def test_a_sample_that_nobody_checks_in_time_is_paid_unchecked(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        checker = await trust(market, Worker(market))
        waits = await submit(market, who, "sampled", clocks={"queue_seconds": 60})
        fails = await submit(market, who, "sampled", retry={"attempts_max": 1})
        worker = Worker(market)
        for lease in await worker.claim(slots=2):
            await worker.deliver(lease)
        (lease,) = [lease for lease in await checker.claim(slots=2) if lease.job == fails]
        await checker.fail(lease, "unknown")
        for _ in range(3):  # the other check is lost first, and waits once more
            await market.later(62)
        for job in (waits, fails):
            done = await detail(market, who, job)
            assert (done.state, done.verification.verdict) == ("succeeded", "unchecked")
        await market.require_sound()


async def test_what_cannot_be_paid_at_once_is_paid_by_events(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        job = await submit(market, who, "quorum:3")
        workers = [Worker(market) for _ in range(3)]
        market.trading.settles = False
        told = await answer_all(market, workers, [GARBAGE, embedding(1), ALMOST])
        assert (told[-1].state, told[-1].earned) == ("succeeded", None)
        rows = await market.sql("SELECT kind, body FROM ai.outbox WHERE kind <> 'ai.attempt_ended' ORDER BY kind")
        assert [row["kind"] for row in rows] == ["ai.answer_succeeded", "ai.holds_freed", "ai.job_succeeded"]
        assert (await market.ai.pending_of(workers[1].id)).held_units > 0
        assert [hold in rows[1]["body"] for hold in holds_of(job, 3)] == [False, False, True]
        await market.ai.prolong_holds()

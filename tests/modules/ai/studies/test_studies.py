"""Studies: trials are jobs within one budget; what does worse is stopped and its money goes back; nothing is lost."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Lease, LogLine
from aitbc.modules.ai.models.studies.shapes import CreateStudy, StudyDetail
from aitbc.modules.ai.models.studies.values import reports_of, value_of, wrong_param
from aitbc.modules.ai.service.studies.studies import StudyInvalid, StudyStateConflict
from tests.modules.ai.make import Market, Worker, a_key, ai_on

UNSOUND = """
    SELECT s.id FROM ai.studies s LEFT JOIN ai.trials t ON t.study = s.id GROUP BY s.id
    HAVING s.spent_units <> coalesce(sum(t.spent_units), 0)
        OR s.reserved_units <> s.trial_units * count(*) FILTER (WHERE t.state IN ('starting', 'running', 'stopping'))"""


def a_study(**fields: Any) -> CreateStudy:
    """A study of a program that prints how far its rate is from 0.3."""
    asked = {
        "kind": "command",
        "input": {"program": "wc", "arguments": ["--rate={{params.rate}}", "--of={{params.sort}}"]},
        "params": {
            "rate": {"type": "float", "low": 0.0, "high": 1.0},
            "sort": {"type": "choice", "choices": ["a", "b"]},
        },
        "trials": 6,
        "parallel": 3,
        "budget": "10",
        "max_price": "0.5",
        "seed": 7,
    }
    return msgspec.convert(asked | fields, CreateStudy)


def loss(lease: Lease) -> float:
    """What a trial comes to."""
    rate, sort = (argument.partition("=")[2] for argument in lease.input["arguments"])
    return abs(float(rate) - 0.3) + (0.5 if sort == "b" else 0.0)


def printed(value: object) -> dict[str, Any]:
    """The output of a program that printed its value last."""
    return {"exit_code": 0, "stdout": f"epochs done\n{value}\n", "stderr": "", "truncated": False}


async def work(market: Market, worker: Worker, answer: Callable[[Lease], object] = loss) -> int:
    """Drive the studies on, and do all jobs that wait; answers how many."""
    await market.ai.drive_studies()
    leases = await worker.claim(slots=20)
    for lease in leases:
        await worker.deliver(lease, printed(answer(lease)))
    await market.ai.drive_studies()
    return len(leases)


async def look(market: Market, who: Principal, study: str) -> StudyDetail:
    """A study as it is, its money checked."""
    assert await market.sql(UNSOUND) == []
    return await market.ai.studies.get(who, study)


async def test_trials_are_jobs_in_a_row_of_better_ones_and_a_crash_anywhere_loses_nothing(owner: Target) -> None:
    async with ai_on(owner) as market:
        who, worker = market.person(), Worker(market)
        once = a_key(who)
        study = await market.ai.studies.create(who, a_study(), once)
        assert await market.ai.studies.create(who, a_study(), once) == study
        await market.ai.drive_studies()
        begun = await look(market, who, study.id)
        assert [one.state for one in begun.results] == ["running"] * 3  # as many as may be at once
        assert money.parse(begun.reserved) == 3 * money.parse("0.5")
    async with ai_on(owner, trading=market.trading) as again:  # another process goes on with it
        worker = Worker(again)
        while await work(again, worker):
            pass
        done = await look(again, who, study.id)
        assert (done.state, done.begun, done.complete, done.reserved) == ("complete", 6, 6, "0")
        assert done.best_value == min(one.value for one in done.results if one.value is not None)
        assert done.results[done.best or 0].value == done.best_value
        assert money.parse(done.spent) == sum(money.parse(one.spent) for one in done.results)
        assert done.importance is not None and sum(done.importance.values()) == pytest.approx(1.0, abs=1e-4)
        assert [one.params for one in done.results[:3]] == [one.params for one in begun.results]
        jobs = await again.sql("SELECT count(*) AS jobs FROM ai.jobs")
        assert jobs[0]["jobs"] == 6
        await again.require_sound()


async def test_a_trial_that_reports_worse_values_is_stopped_and_refunded(owner: Target) -> None:
    async with ai_on(owner) as market:
        who, worker = market.person(), Worker(market)
        pruner = {"type": "median", "startup_trials": 2}
        spec = a_study(trials=3, parallel=1, pruner=pruner, sampler="random")
        study = await market.ai.studies.create(who, spec, a_key(who))

        async def report(lease: Lease, value: float) -> None:
            line = LogLine(sequence=1, at=now(), text=f"aitbc.report 1 {value}")
            await market.ai.log(worker.id, lease.attempt, lease.token, [line])

        for value in (0.1, 0.2):
            await market.ai.drive_studies()
            (lease,) = await worker.claim()
            await report(lease, value)
            await market.ai.drive_studies()
            await worker.deliver(lease, printed(value))
        await market.ai.drive_studies()
        (lease,) = await worker.claim()
        before = market.trading.available[who.account]
        await report(lease, 9.0)
        await market.ai.drive_studies()
        await market.ai.drive_studies()
        done = await look(market, who, study.id)
        assert [one.state for one in done.results] == ["complete", "complete", "pruned"]
        assert (done.state, done.results[2].spent, done.results[2].reports) == ("complete", "0", ((1, 9.0),))
        assert await market.state(lease.job) == "canceled"
        assert market.trading.available[who.account] == before + money.parse("0.5")


async def test_the_budget_is_never_passed_and_failures_end_a_study(owner: Target) -> None:
    async with ai_on(owner) as market:
        who, worker = market.person(), Worker(market)
        short = await market.ai.studies.create(who, a_study(budget="1.2", trials=50), a_key(who))
        await market.ai.drive_studies()
        assert (await look(market, who, short.id)).begun == 2  # a third could pass it
        clock.move(timedelta(seconds=60))
        leases = await worker.claim(slots=20)
        for lease in leases:
            await worker.deliver(lease, printed(loss(lease)))
        while await work(market, worker):
            pass
        found = await look(market, who, short.id)
        assert money.parse(found.spent) <= money.parse("1.2")
        assert found.state in ("exhausted", "complete", "running")
        await market.ai.studies.cancel(who, found.id) if found.state == "running" else None

        failing = await market.ai.studies.create(who, a_study(trials=50), a_key(who))
        while await work(market, worker, answer=lambda lease: "no number"):
            pass
        found = await look(market, who, failing.id)
        assert (found.state, found.best, found.importance) == ("failed", None, None)
        assert found.failed >= 10
        assert found.results[0].message == "The output has no number at text."

        held = await market.ai.studies.create(who, a_study(), a_key(who))
        await market.ai.drive_studies()
        await market.ai.studies.pause(who, held.id)
        leases = await worker.claim(slots=20)
        await worker.deliver(leases[0], printed(1))
        await market.ai.drive_studies()
        assert (await look(market, who, held.id)).begun == 3
        await market.ai.studies.cancel(who, held.id)
        await asyncio.gather(market.ai.drive_studies(), market.ai.drive_studies())
        await market.ai.drive_studies()
        found = await look(market, who, held.id)
        assert (found.state, [one.state for one in found.results]) == ("canceled", ["complete", "canceled", "canceled"])
        with pytest.raises(StudyStateConflict):
            await market.ai.studies.resume(who, held.id)
        await market.require_sound()


@pytest.mark.parametrize(
    "fields",
    [
        {"params": {"rate": {"type": "float", "low": 1.0, "high": 0.0}}},
        {"params": {"rate": {"type": "choice"}}},
        {"params": {"other": {"type": "int", "low": 1, "high": 2}}},
        {"input": {"program": "wc", "arguments": ["--rate={{params.rate}}"]}},
        {"input": {"program": "wc", "arguments": ["{{params.rate}}{{params.sort}}{{params.more}}"]}},
        {"budget": "0.4"},
        {"max_price": "0.00000001"},
    ],
)
async def test_what_contradicts_itself_is_refused_and_leaves_nothing(owner: Target, fields: dict[str, Any]) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        with pytest.raises(StudyInvalid):
            await market.ai.studies.create(who, a_study(**fields), a_key(who))
        assert await market.sql("SELECT id FROM ai.studies WHERE account = $1", ids.decode("acct", who.account)) == []


def test_values_and_reports_are_finite_numbers() -> None:
    spec = a_study()
    assert value_of(spec, printed("0.25")) == 0.25
    for bad in ("nan", "inf", "", "many words"):
        assert value_of(spec, printed(bad)) is None
    assert value_of(msgspec.structs.replace(spec, objective=spec.objective), {"stdout": 3}) is None
    lines = ["aitbc.report 2 0.5", "noise", "aitbc.report 1 nan", "aitbc.report 2 0.4", " aitbc.report 1 1e-3 "]
    assert reports_of(lines) == [(1, 0.001), (2, 0.4)]
    assert all(wrong_param(param) is None for param in spec.params.values())

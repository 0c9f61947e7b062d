"""What plugins say of jobs: who may submit, what a unit costs, and which results are good enough."""

from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.modules.ai.service.prices import SubmissionRefused
from aitbc.modules.ai.service.submissions import MaxPriceTooLow
from tests.kernel.hooks.plugins import HALF, module, sandbox
from tests.modules.ai.make import Worker, a_job, a_key, ai_on

SAYS_NO = "(i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (i32.const 8)) (i32.const 16)"
REASON = '(data (i32.const 32) "not here")'
EMBED_UNIT = 10


def _hooks(body: str, hook: str = "price.1", data: str = "") -> Hooks:
    hooks = Hooks()
    hooks.load(sandbox(module(body, hook=hook, data=data), name="acme.plugin", hooks=(hook,)))
    return hooks


def _price(units: int) -> str:
    return f"(i64.store (i32.const 16) (i64.const {units})) (i32.const 16)"


async def _job(market: Any, job: str) -> Any:
    (row,) = await market.sql("SELECT * FROM ai.jobs ORDER BY created_at DESC LIMIT 1")
    return row


async def test_a_price_holds_for_the_quote_the_job_and_its_payment(owner: Target) -> None:
    async with ai_on(owner, hooks=_hooks(_price(7))) as market:
        alice, miner = market.person(), Worker(market)
        quote = await market.ai.quotes.quote(alice, a_job(3))
        assert quote.unit_price == "0.00000007"
        job = await market.submit(alice, texts=3)
        assert (await _job(market, job))["unit_price_units"] == 7
        outcome = await miner.deliver(await miner.take())
        assert outcome.price == quote.price
        assert market.ai.quotes.kinds()[0].unit_price != quote.unit_price, "the list says what the operator set"


async def test_a_price_is_that_of_before_when_the_plugin_is_gone_or_breaks(owner: Target) -> None:
    hooks = _hooks(HALF)
    async with ai_on(owner, hooks=hooks) as market:
        alice = market.person()
        before = (await market.ai.quotes.quote(alice, a_job())).unit_price
        hooks.unload("acme.plugin")
        assert (before, (await market.ai.quotes.quote(alice, a_job())).unit_price) == ("0.00000005", "0.0000001")
    async with ai_on(owner, hooks=_hooks("unreachable")) as market:
        assert (await market.ai.quotes.quote(market.person(), a_job())).unit_price == "0.0000001"


async def test_a_higher_price_needs_a_higher_limit_and_nothing_is_held_without_it(owner: Target) -> None:
    async with ai_on(owner, hooks=_hooks(_price(EMBED_UNIT * 100))) as market:
        alice = market.person()
        with pytest.raises(MaxPriceTooLow):
            await market.submit(alice, max_price="0.00000900")
        assert not market.trading.holds


async def test_a_job_is_refused_with_the_reason_before_any_money_moves(owner: Target) -> None:
    async with ai_on(owner, hooks=_hooks(SAYS_NO, "validate_submission.1", REASON)) as market:
        alice = market.person()
        with pytest.raises(SubmissionRefused, match=r"acme\.plugin refuses this job: not here"):
            await market.ai.submissions.submit(alice, a_job(), a_key(alice))
        assert not market.trading.holds
        assert await market.sql("SELECT id FROM ai.jobs WHERE account = $1", _uuid(alice.account)) == []


async def test_a_result_that_a_judge_refuses_is_the_miners_failure_and_is_not_paid(owner: Target) -> None:
    async with ai_on(owner, hooks=_hooks(SAYS_NO, "judge_result.1", REASON)) as market:
        alice, miner = market.person(), Worker(market)
        await market.submit(alice, retry={"attempts_max": 1})
        outcome = await miner.deliver(await miner.take())
        assert outcome.state == "failed" and not market.trading.settlements
        (attempt,) = await market.sql("SELECT * FROM ai.attempts WHERE miner = $1", _uuid(miner.id))
        assert attempt["fault"] == "miner" and "acme.plugin refuses it: not here" in attempt["message"]


def _uuid(id_: str) -> Any:
    from aitbc.kernel.primitives import ids

    return ids.decode(id_.partition("_")[0], id_)

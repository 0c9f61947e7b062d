"""The treasury: filled by fees and gifts, spent within budget lines, in parts and milestones, and reported from rows."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import ConfigError
from aitbc.modules.governance.module import module
from aitbc.modules.governance.service import GovernanceService, GovernanceSettings
from aitbc.modules.trading.api import PayRent, PlaceHold
from tests.app import Caller, TestApp
from tests.modules.governance.make import (
    GOVERNANCE,
    PROPOSALS,
    TIMELOCK,
    VOTING,
    governance_of,
    member,
    pass_time,
    proposed,
    started,
    state_of,
    tick,
    voted,
)

TREASURY = f"{GOVERNANCE}/treasury"


async def carried(stage: TestApp, who: Caller, *actions: dict[str, Any], state: str = "executed") -> dict[str, Any]:
    """A proposal of the class funding that went all the way."""
    proposal = await proposed(who, class_="funding", actions=list(actions))
    await started(stage, proposal)
    await voted(who, proposal)
    await pass_time(stage, seconds=VOTING)
    await pass_time(stage, seconds=TIMELOCK)
    return await state_of(stage, proposal, state)


async def line_of(who: Caller, name: str) -> dict[str, str]:
    lines = (await who.get(TREASURY)).json()["lines"]
    return next(line for line in lines if line["line"] == name)


def budget(line: str, limit: str) -> dict[str, str]:
    return {"do": "set_budget", "line": line, "limit": limit}


async def test_a_grant_is_paid_in_parts_and_the_rest_can_be_stopped(stage: TestApp) -> None:
    rich, payee = await member(stage, "2000", "9000"), await stage.who("payee")
    assert (await rich.post(f"{TREASURY}/gifts", {"amount": "500"})).status_code == 201
    began = now()
    pay = {"do": "pay", "to": payee.principal.account, "line": "parts", "amount": "100", "parts": 3}
    paid = await carried(stage, rich, budget("parts", "300"), pay | {"every_seconds": 400})
    await tick(stage)
    assert (await payee.get(f"/api/v1/trading/accounts/{payee.principal.account}")).json()["available"] == "33.33333334"
    assert (await line_of(rich, "parts"))["promised"] == "66.66666666"
    await pass_time(stage, seconds=400)
    assert (await line_of(rich, "parts"))["paid"] == "66.66666667"
    await carried_stop(stage, rich, paid)
    line = await line_of(rich, "parts")
    assert line["promised"] == "0"
    report = (await rich.get(f"{TREASURY}/report", since=began.isoformat(), until=now().isoformat())).json()
    again = (await rich.get(f"{TREASURY}/report", since=began.isoformat(), until=report["until"])).json()
    assert report == again and report["paid"]["parts"] == line["paid"]
    assert (await stage.service("trading").verify()).divergence is None


async def carried_stop(stage: TestApp, who: Caller, proposal: dict[str, Any]) -> None:
    """Stop what a proposal has not paid, whatever that is by then."""
    await carried(stage, who, {"do": "stop_payments", "proposal": proposal["id"]})


async def test_milestones_are_paid_when_two_have_approved_them(stage: TestApp) -> None:
    rich, payee = await member(stage, "2000", "9000"), await stage.who("payee")
    await rich.post(f"{TREASURY}/gifts", {"amount": "200"})
    parts = [{"title": "First", "amount": "20"}, {"title": "Second", "amount": "30"}]
    pay = {"do": "pay", "to": payee.principal.account, "line": "steps", "amount": "50", "milestones": parts}
    grant = await carried(stage, rich, budget("steps", "50"), pay)
    moves = (await rich.get(f"{TREASURY}/moves", proposal=grant["id"])).json()["data"]
    first = next(move for move in moves if move["title"] == "First")
    assert {move["state"] for move in moves if move["purpose"] == "payment"} == {"waiting"}
    path = f"{TREASURY}/moves/{first['id']}/approval"
    assert (await rich.client.put(path)).status_code == 403
    admin = await stage.admin()
    for _ in range(2):
        assert (await admin.client.put(path)).json()["state"] == "waiting"
    identity = stage.runtime.identity
    key = await identity.issue(account=rich.principal.account, kind="admin", name="council")
    async with stage.client(key.secret) as council:
        assert (await council.put(path)).json()["state"] == "due"
    await tick(stage)
    assert (await payee.get(f"/api/v1/trading/accounts/{payee.principal.account}")).json()["available"] == "20"
    assert await line_of(rich, "steps") == {"line": "steps", "limit": "50", "paid": "20", "promised": "30", "left": "0"}


async def test_what_a_line_or_the_treasury_does_not_cover_is_refused(stage: TestApp) -> None:
    rich = await member(stage, "2000", "9000")
    to = rich.principal.account
    pay = {"do": "pay", "to": to, "line": "tight", "amount": "11"}
    wrong = [
        (404, "budget_line_not_found", [pay]),
        (409, "budget_line_exceeded", [budget("tight", "10"), pay]),
        (404, "payee_not_found", [budget("tight", "20"), pay | {"to": "acct_" + "0" * 26}]),
        (422, "action_not_allowed", [{"do": "set_parameter", "name": "trading.fee_basis_points", "value": 1}]),
        (422, "action_not_allowed", []),
        (422, "invalid", [budget("tight", "20"), pay | {"milestones": [{"title": "x", "amount": "1"}]}]),
        (422, "action_not_allowed", [{"do": "withdraw_plugin", "plugin": "acme.translate"}]),
        (422, "invalid", [{"do": "withdraw_plugin", "plugin": "translate"}]),
    ]
    for status, code, actions in wrong:
        answer = await rich.post(PROPOSALS, {"title": "Wrong", "class": "funding", "actions": actions})
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    for class_ in ("parameters", "emergency", "general"):  # no budget is passed by under another class
        answer = await rich.post(PROPOSALS, {"title": "Wrong", "class": class_, "actions": [pay]})
        assert (answer.status_code, answer.json()["code"]) == (422, "action_not_allowed"), answer.text
    for name, value in (("trading.fee_basis_points", 2_501), ("nobody.knows", 1), ("hermes.paused", 1)):
        action = {"do": "set_parameter", "name": name, "value": value}
        answer = await rich.post(PROPOSALS, {"title": "Wrong", "class": "parameters", "actions": [action]})
        assert answer.status_code == 422, answer.text
    early = {"do": "set_parameter", "name": "governance.unlock_seconds", "value": VOTING}
    answer = await rich.post(PROPOSALS, {"title": "Wrong", "class": "parameters", "actions": [early]})
    assert answer.status_code == 422
    more = (await rich.get(TREASURY)).json()
    failed = await carried(
        stage, rich, budget("vast", "90000"), pay | {"line": "vast", "amount": "80000"}, state="execution_failed"
    )
    assert "treasury" in failed["failure"].lower()
    assert (await rich.get(TREASURY)).json()["promised"] == more["promised"]


async def test_two_proposals_that_race_for_one_line_never_spend_more_than_it_has(stage: TestApp) -> None:
    rich, payee = await member(stage, "2000", "9000"), await stage.who("payee")
    await rich.post(f"{TREASURY}/gifts", {"amount": "300"})
    await carried(stage, rich, budget("raced", "100"))
    pay = {"do": "pay", "to": payee.principal.account, "line": "raced", "amount": "30"}
    racing = [await proposed(rich, class_="funding", actions=[pay]) for _ in range(5)]
    await started(stage, racing[0])
    for proposal in racing:
        await voted(rich, proposal)
    await pass_time(stage, seconds=VOTING)
    clock.move(timedelta(seconds=TIMELOCK))
    execution = governance_of(stage).governance_execution
    twice = [execution.execute(one["id"]) for one in racing for _ in range(2)]
    await asyncio.gather(*twice, return_exceptions=True)
    admin = await stage.admin()
    for one in racing:  # what a payment came between is tried again
        await admin.post(f"{PROPOSALS}/{one['id']}/execute")
    states = [(await state_of(stage, one))["state"] for one in racing]
    assert sorted(states) == ["executed"] * 3 + ["execution_failed"] * 2
    await tick(stage)
    assert (await payee.get(f"/api/v1/trading/accounts/{payee.principal.account}")).json()["available"] == "90"
    assert (await line_of(rich, "raced"))["left"] == "10"


async def test_the_treasury_gets_its_share_of_fees_once(stage: TestApp) -> None:
    service, parameters = governance_of(stage).governance_treasury, stage.runtime.platform.parameters
    await service.fund()
    await parameters.set([("governance.fee_share_basis_points", 4_000)], "prop_share")
    before = (await service.view()).balance
    buyer, seller = await stage.who("buyer", funds="100"), await stage.who("seller")
    trading = stage.service("trading")
    hold, payer, units = ids.new_id("hold"), buyer.principal.account, 100 * 10**8
    later = now() + timedelta(hours=1)
    await trading.hold(PlaceHold(hold=hold, payer=payer, reference="rent", amount_units=units, expires_at=later))
    owner = seller.principal.account
    rent = PayRent(hold=hold, payer=payer, reference="rent", owner=owner, price_units=units, reason="x")
    await trading.pay_rent(rent)
    for _ in range(3):
        await service.fund()
        await tick(stage)
    after = (await service.view()).balance
    assert float(after) - float(before) == 1.0  # 40 % of 2.5 %
    assert (await trading.verify()).divergence is None


def test_settings_under_which_stake_is_gone_too_soon_are_refused() -> None:
    settings = GovernanceSettings(unlock_seconds=9 * 86_400)
    parameters = Parameters(None, module.parameters, lambda _: settings)
    platform: Any = SimpleNamespace(parameters=parameters, identity=None)
    nothing: Any = None
    with pytest.raises(ConfigError, match="unlock_seconds"):
        GovernanceService(nothing, nothing, platform, settings)
    platform.parameters = Parameters(None, module.parameters)
    GovernanceService(nothing, nothing, platform)

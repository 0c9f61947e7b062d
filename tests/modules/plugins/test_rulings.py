"""What governance decides about plugins is heeded: withdrawn ones stop and stay away, whoever wants them."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec import convert

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.primitives import clock
from aitbc.modules.governance.api import CLASSES
from aitbc.modules.governance.events import PluginRuled
from aitbc.modules.governance.service import GovernanceSettings
from tests.app import Caller, TestApp, running_app
from tests.eventually import eventually
from tests.modules.governance.make import PROPOSALS, member, pass_time, proposed, started, state_of, voted
from tests.modules.plugins.make import API, price, publisher, word
from tests.modules.plugins.test_installs import HALVED, LISTED, halving, install, quarter, until_listed

TIMES = {"delay_seconds": 60, "voting_seconds": 600, "timelock_seconds": 300}


@pytest.fixture(scope="module", autouse=True)
def forward_time() -> Iterator[None]:
    """Time only moves forward within a file."""
    yield
    clock.reset()


@pytest.fixture(scope="module")
async def app(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target], anyio_backend: str
) -> AsyncIterator[TestApp]:
    """A running app whose proposals are decided in minutes."""
    times = {name: dict.fromkeys(CLASSES, seconds) for name, seconds in TIMES.items()}
    rules = convert({"late_seconds": 1, **times}, GovernanceSettings)
    folder = tmp_path_factory.mktemp("app")
    async with running_app(
        new_database(), folder, hooks=HookSettings(poll_seconds=0.1), tables={"governance": rules}
    ) as made:
        yield made


async def decided(app: TestApp, who: Caller, *actions: dict[str, Any]) -> str:
    """A proposal with these actions that was executed."""
    proposal = await proposed(who, class_="parameters", actions=list(actions))
    await started(app, proposal)
    await voted(who, proposal)
    await pass_time(app, seconds=601)
    await pass_time(app, seconds=301)
    return str((await state_of(app, proposal, "executed"))["id"])


async def ruling(app: TestApp, plugin: str) -> dict[str, Any] | None:
    """What is known of a decision about a plugin."""
    admin = await app.admin()
    found = (await admin.get(f"{API}/rulings", limit=1000)).json()["data"]
    return next((one for one in found if one["plugin"] == plugin), None)


async def until_ruled(app: TestApp, plugin: str, proposal: str) -> None:
    """Wait until the module has heard of a proposal."""

    async def heard() -> bool:
        found = await ruling(app, plugin)
        return found is not None and found["proposal"] == proposal

    await eventually(heard)


async def test_a_vote_turns_a_plugin_off_for_the_operator_too_until_another_allows_it(app: TestApp) -> None:
    voter, bob = await member(app, "1500", "5000"), await app.who("bob")
    _, plugin, admin = await halving(app)
    assert (await install(admin, plugin)).status_code == 201 and await price(bob) == HALVED
    withdrawn = await decided(app, voter, {"do": "withdraw_plugin", "plugin": plugin})
    await until_ruled(app, plugin, withdrawn)
    await app.service("plugins").reconcile_installs()
    await until_listed(bob)
    standing = (await admin.get(f"{API}/installs", limit=1000)).json()["data"]
    assert [(one["state"], one["reason"]) for one in standing if one["plugin"] == plugin] == [
        ("off", f"withdrawn by {withdrawn}")
    ]
    for more in ({}, {"version": "1.0.0", "override": True}):
        refused = await install(admin, plugin, **more)
        assert (refused.status_code, refused.json()["code"]) == (409, "plugin_not_allowed")
        assert withdrawn in refused.json()["detail"]
    allowed = await decided(app, voter, {"do": "allow_plugin", "plugin": plugin})
    await until_ruled(app, plugin, allowed)
    assert await price(bob) == LISTED, "it is allowed, not installed"
    assert (await install(admin, plugin)).status_code == 201 and await price(bob) == HALVED
    audited = (await admin.get("/api/v1/operations/audit", limit=500)).json()["data"]
    assert {"plugins.allow", "plugins.withdraw"} <= {one["action"] for one in audited if one["object"] == plugin}
    await admin.post(f"{API}/installs/{plugin}/remove", {})


async def test_a_parameter_lets_only_those_run_that_a_vote_has_allowed(app: TestApp) -> None:
    bob, parameters = await app.who("bob"), app.runtime.platform.parameters
    admin, alice = await app.admin(), await publisher(app)
    known, other = [(await alice.publish(alice.manifest(word("q")), quarter()))["plugin"] for _ in range(2)]
    at = clock.now()
    async with app.service("plugins").db.unit_of_work() as uow:
        ruled = [PluginRuled(plugin=known, allowed=True, proposal="prop_b", ruled_at=at)]
        ruled.append(PluginRuled(plugin=known, allowed=False, proposal="prop_a", ruled_at=at - timedelta(seconds=1)))
        for one in ruled:  # delivery is not ordered: the later decision counts
            await app.service("plugins").on_plugins_ruled(uow, [one])
    assert (await ruling(app, known) or {})["allowed"] is True
    assert (await install(admin, other)).status_code == 201
    await parameters.set([("plugins.only_allowed", 1)], "prop_only")
    await app.service("plugins").reconcile_installs()
    await until_listed(bob)
    refused = await install(admin, other)
    assert (refused.status_code, refused.json()["code"]) == (409, "plugin_not_allowed")
    assert (await install(admin, known)).status_code == 201
    await parameters.set([("plugins.only_allowed", None)], "prop_all")
    assert (await install(admin, other)).status_code == 201
    for plugin in (known, other):
        await admin.post(f"{API}/installs/{plugin}/remove", {})


async def test_where_nobody_runs_plugins_a_proposal_about_one_is_refused_by_name(app: TestApp) -> None:
    who, platform = await member(app, "150"), app.runtime.platform
    heard, platform.heard = platform.heard, platform.heard - {PluginRuled.kind}
    try:
        action = {"do": "allow_plugin", "plugin": "acme.translate"}
        body = {"title": "Unheard", "class": "parameters", "actions": [action]}
        refused = await who.post(PROPOSALS, body)
        assert (refused.status_code, refused.json()["code"]) == (409, "action_not_heard")
        assert "acme.translate" in refused.json()["detail"]
    finally:
        platform.heard = heard

"""Builders for the tests of governance: an app with short rules, people with stake, and proposals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.governance.api import CLASSES
from aitbc.modules.governance.service import GovernanceService, GovernanceSettings
from tests.app import Caller, TestApp, running_app

GOVERNANCE = "/api/v1/governance"
PROPOSALS = f"{GOVERNANCE}/proposals"
DELAY, VOTING, TIMELOCK, LATE, EXECUTION, UNLOCK = 60, 600, 300, 100, 3_000, 2_000
"""The rules of the test app, in seconds, the same for all classes."""
"""How long something that happens by itself is waited for, in seconds."""
LOWER = {"do": "set_parameter", "name": "trading.fee_basis_points", "value": 200}
SECONDS = {"delay_seconds": DELAY, "voting_seconds": VOTING, "timelock_seconds": TIMELOCK}
_numbers = iter(range(1, 10**9))


@asynccontextmanager
async def governance_app(target: Target, state_dir: Path, **rules: Any) -> AsyncIterator[TestApp]:
    """A running app whose proposals are decided in minutes."""
    each = {name: dict.fromkeys(CLASSES, seconds) for name, seconds in SECONDS.items()}
    others = {"late_seconds": LATE, "execution_seconds": EXECUTION, "unlock_seconds": UNLOCK}
    settings = GovernanceSettings(**(each | others | rules))
    async with running_app(target, state_dir, tables={"governance": settings}) as stage:
        yield stage


def governance_of(stage: TestApp) -> GovernanceService:
    """The service itself."""
    service = stage.service("governance")
    assert isinstance(service, GovernanceService)
    return service


async def member(stage: TestApp, stake: str | None = "500", funds: str = "1000") -> Caller:
    """Somebody with money, and stake."""
    who = await stage.who("member", funds=funds)
    if stake is not None:
        await locked(who, stake)
    return who


async def locked(who: Caller, amount: str) -> dict[str, Any]:
    """Stake that is locked."""
    answer = await who.post(f"{GOVERNANCE}/stake/lock", {"amount": amount})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def proposed(who: Caller, **body: Any) -> dict[str, Any]:
    """A proposal that was made; a general one unless its class is said, and never the same twice."""
    title, class_ = f"Proposal {next(_numbers)}", body.pop("class_", "general")
    answer = await who.post(PROPOSALS, {"title": title, "class": class_} | body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def pass_time(stage: TestApp, **by: float) -> None:
    """Move the clock, and let governance do what is due then."""
    clock.move(timedelta(**by))
    await tick(stage)


async def tick(stage: TestApp) -> None:
    """Do what is due now; the app's own tasks do the same meanwhile."""
    service = governance_of(stage)
    for _ in range(2):
        await service.clockwork.advance()
        await service.moves.run_due()


async def started(stage: TestApp, proposal: dict[str, Any]) -> dict[str, Any]:
    """The proposal once its voting has started."""
    await pass_time(stage, seconds=DELAY + 1)
    return await state_of(stage, proposal, "active")


async def state_of(stage: TestApp, proposal: dict[str, Any], *states: str) -> dict[str, Any]:
    """The proposal, which is in one of these states."""
    admin = await stage.admin()
    for _ in range(200):  # another turn of the periodic task may be at it
        found = (await admin.get(f"{PROPOSALS}/{proposal['id']}")).json()
        if not states or found["state"] in states:
            break
        await asyncio.sleep(0.1)
    assert not states or found["state"] in states, found
    return dict(found)


async def voted(who: Caller, proposal: dict[str, Any], choice: str = "for", **body: Any) -> dict[str, Any]:
    """A vote that counts."""
    said = {"choice": choice} if choice else {}
    answer = await who.client.put(f"{PROPOSALS}/{proposal['id']}/vote", json=said | body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())

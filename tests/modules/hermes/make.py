"""Builders for the tests of hermes: a running app whose runs a test drives itself, agents, and those who call them."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from aitbc.app import MODULES
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.service import AiSettings
from aitbc.modules.gpu.service import GpuSettings
from aitbc.modules.hermes.service import HermesService, HermesSettings
from aitbc.server.config.settings import WebhookSettings
from tests.app import Caller, TestApp, running_app
from tests.modules.gpu.make import Fleet

HERMES = "/api/v1/hermes"
AGENTS = f"{HERMES}/agents"
RUNS = f"{HERMES}/runs"
_numbers = itertools.count(1)


@dataclass
class Town:
    """A running app; nothing of hermes runs by itself."""

    fleet: Fleet
    service: HermesService

    @property
    def stage(self) -> TestApp:
        """The app."""
        return self.fleet.stage

    async def owner(self, funds: str | None = None) -> Caller:
        """Somebody who may have agents, and call some where there are funds."""
        return await self.fleet.owner(funds=funds)

    async def step(self, seconds: float = 0.0) -> None:
        """Let time pass, send what is due, and drive on every run whose time it is."""
        clock.move(timedelta(seconds=seconds))
        await self.service.send_messages()
        await self.service.drive_runs()

    async def balance(self, who: Caller) -> tuple[str, str]:
        """What somebody can spend, and what of theirs is held."""
        found = (await who.get(f"/api/v1/trading/accounts/{who.principal.account}")).json()
        return found["available"], found["held"]


def skill(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A skill with these steps."""
    return {"id": "work", "name": "Work", "description": "Does it.", "price": "0.5", "steps": steps} | changes


def approval(**changes: Any) -> dict[str, Any]:
    """A step that waits for a person."""
    return {
        "does": "approve",
        "name": "ok",
        "question": "Go on?",
        "within_seconds": 60,
        "otherwise": "reject",
    } | changes


def handing_on(agent: str | None = None, **changes: Any) -> dict[str, Any]:
    """A step that another agent does."""
    return {"does": "delegate", "name": "part", "skill": "work", "agent": agent, "budget": "1"} | changes


def a_job(**changes: Any) -> dict[str, Any]:
    """A step that is a job."""
    job = {"does": "job", "name": "vectors", "kind": "embed", "input": {"texts": ["{{text}}"]}, "max_price": "0.05"}
    return job | changes


async def registered(owner: Caller, *skills: dict[str, Any], **changes: Any) -> str:
    """The id of an agent that is taken."""
    body = {"name": f"agent {next(_numbers)}", "skills": skills} | changes
    answer = await owner.post(AGENTS, body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def called(who: Caller, agent: str, once: str | None = None, **changes: Any) -> httpx.Response:
    """The answer to a call."""
    return await who.post(RUNS, {"agent": agent, "text": "please"} | changes, once=once)


async def read(who: Caller, run: str) -> dict[str, Any]:
    """A run as somebody sees it."""
    answer = await who.get(f"{RUNS}/{run}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@asynccontextmanager
async def town_on(target: Target, state_dir: Path, **settings: Any) -> AsyncIterator[Town]:
    """An app over one database, with hermes at rest."""
    modules = [replace(one, periodic_tasks=()) if one.name == "hermes" else one for one in MODULES]
    tables = {
        "hermes": HermesSettings(**settings),
        "gpu": GpuSettings(grace_seconds=0),
        "ai": AiSettings(grace_seconds=0),
    }
    webhooks = WebhookSettings(allow_private=True)
    async with running_app(target, state_dir, modules=modules, tables=tables, webhooks=webhooks) as stage:
        connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=60))
        try:
            yield Town(Fleet(stage, connection), stage.service("hermes"))
        finally:
            await connection.close()

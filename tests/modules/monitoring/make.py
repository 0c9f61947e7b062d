"""Builders for the tests of monitoring: an app whose monitors a test steps itself, and places outside to look at."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from aitbc.app import MODULES
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.monitoring.api import Monitor
from aitbc.modules.monitoring.service import MonitoringService, MonitoringSettings
from aitbc.server.config.settings import WebhookSettings
from tests.app import Caller, TestApp, running_app

PATH = "/api/v1/monitoring"
_numbers = itertools.count(1)


@dataclass
class Watched:
    """A running app; nothing of monitoring runs by itself."""

    app: TestApp
    service: MonitoringService
    admin: Caller

    async def step(self, seconds: float = 0.0) -> None:
        """Let time pass, look at what is due, and wait for every look."""
        clock.move(timedelta(seconds=seconds))
        await self.service.look()
        await self.service.watch.finish()

    async def post(self, path: str, body: Any = None, status: int = 201) -> Any:
        """What the operator's command answers, which must end so."""
        answer = await self.admin.post(f"{PATH}/{path}", body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, **query: Any) -> Any:
        """What the operator reads."""
        answer = await self.admin.get(f"{PATH}/{path}", **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def monitor(self, name: str) -> Monitor:
        """A monitor as it stands."""
        return await self.service.monitor_registry.get(name)


def fresh_name(word: str) -> str:
    """A name that nothing in this process has."""
    return f"{word}-{next(_numbers)}"


@asynccontextmanager
async def watched_app(target: Target, state_dir: Path, **settings: Any) -> AsyncIterator[Watched]:
    """An app over one database, with monitoring at rest."""
    await asyncio.to_thread(state_dir.mkdir, exist_ok=True)
    modules = [replace(one, periodic_tasks=()) if one.name == "monitoring" else one for one in MODULES]
    tables = {"monitoring": MonitoringSettings(**settings)}
    webhooks = WebhookSettings(allow_private=True)
    async with running_app(target, state_dir, modules=modules, webhooks=webhooks, tables=tables) as app:
        yield Watched(app, app.service("monitoring"), await app.admin())


class Place:
    """A web server outside, which answers as a test says; hangs while `status` is none."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.url = ""
        self.port = 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if self.status is None:
                await reader.read()
                return
            writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_place() -> AsyncIterator[Place]:
    """A web server until the block ends."""
    place = Place()
    server = await asyncio.start_server(place._answer, "127.0.0.1", 0)
    place.port = server.sockets[0].getsockname()[1]
    place.url = f"http://127.0.0.1:{place.port}/"
    try:
        yield place
    finally:
        server.close()

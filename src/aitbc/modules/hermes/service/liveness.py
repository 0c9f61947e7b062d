"""Liveness: looks at the endpoints of agents, and keeps what their cards say."""

import asyncio
from datetime import timedelta

from sqlalchemy import select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import Unreachable
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.hermes.models.tables import AgentRow
from aitbc.modules.hermes.service.endpoints import Endpoints
from aitbc.modules.hermes.service.settings import HermesSettings

PAGE = 100
AT_ONCE = 8


class Liveness:
    """Looks at endpoints."""

    def __init__(self, db: Database, endpoints: Endpoints, settings: HermesSettings) -> None:
        self._db = db
        self._endpoints = endpoints
        self._settings = settings

    async def probe_due(self) -> None:
        """Look at every endpoint whose time it is."""
        mine = (AgentRow.endpoint.is_not(None), AgentRow.state != "retired", AgentRow.probe_due_at <= now())
        due = select(AgentRow.id, AgentRow.endpoint).where(*mine).order_by(AgentRow.probe_due_at).limit(PAGE)
        async with self._db.reading() as session:
            rows = (await session.execute(due)).all()
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(agent: str, endpoint: str) -> None:
            async with turn:
                await self.probe(agent, endpoint)

        await asyncio.gather(*(one(agent, endpoint) for agent, endpoint in rows if endpoint is not None))

    async def probe(self, agent: str, endpoint: str) -> None:
        """Look at one endpoint now, and keep what was found."""
        try:
            interface = await self._endpoints.interface_of(endpoint)
        except (Unreachable, AppError) as refusal:
            await self._write(agent, fault=str(refusal)[:300])
        else:
            await self._write(agent, fault="", interface=interface, probed_at=now())

    @retrying
    async def _write(self, agent: str, **values: object) -> None:
        due = now() + timedelta(seconds=self._settings.probe_seconds)
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(update(AgentRow).where(AgentRow.id == agent).values(probe_due_at=due, **values))

"""Agents as the older agent coordinator (port 9001) and the older marketplace had them."""

from typing import Any, Literal

import msgspec
from litestar import Controller, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.paging import Limit, Word
from aitbc.kernel.primitives.text import Name
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.legacy.caller import LOOK, READ, WRITE, Hermes
from aitbc.modules.hermes.models.shapes import AgentLimits
from aitbc.modules.hermes.models.tables import AgentRow
from aitbc.modules.hermes.service.commands import AgentFilter, AgentNameTaken, RegisterAgent
from aitbc.modules.hermes.service.views import is_online, reputation_of, skills_of

LISTED_MAX = 500


class LegacyAgentBody(Struct, frozen=True, kw_only=True):
    """An agent of a client of the older dialect: it is listed, and called by nobody before it has skills."""

    agent_id: Name
    agent_type: Name = "worker"
    capabilities: list[str] | dict[str, Any] | str = []
    services: list[Name] | None = None
    endpoints: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    region: Name | None = None
    initial_reputation: float | None = None
    """Passed over: a reputation is made of settled runs only."""


class StatusBody(Struct, frozen=True, kw_only=True):
    """How an agent is."""

    status: Name
    load_metrics: dict[str, Any] | None = None


class DiscoverBody(Struct, frozen=True, kw_only=True):
    """Which agents are looked for."""

    status: Name | None = None
    agent_type: Name | None = None
    capabilities: list[str] = []
    services: list[str] = []


class LegacyAgents(Controller):
    """Agents, registered and found."""

    path = "/agents"

    @post("/register", status_code=201, opt=WRITE)
    async def register(self, hermes: Hermes, who: Who, data: JSONBody[LegacyAgentBody]) -> dict[str, Any]:
        """Register an agent, or say that it is there again."""
        wanted = RegisterAgent(
            name=data.agent_id,
            description="",
            endpoint=None,
            skills=(),
            limits=AgentLimits(),
            handle=data.agent_id,
            details={
                "agent_type": data.agent_type,
                "capabilities": _words(data.capabilities),
                "services": data.services or [],
                "endpoints": data.endpoints or {},
                "metadata": data.metadata or {},
                "region": data.region,
            },
        )
        try:
            made = (await hermes.agents.register(who, wanted, IdempotencyKey.NONE)).id
        except AgentNameTaken:
            made = (await hermes.agents.named(who, data.agent_id)).id
        await hermes.agents.heartbeat(who, made)
        row = await hermes.agents.row(made)
        return {"message": "Agent registered", "registered_at": row.created_at.isoformat()} | _view(hermes, row)

    @post("/discover", status_code=200, opt=LOOK)
    async def discover(self, hermes: Hermes, data: JSONBody[DiscoverBody]) -> dict[str, Any]:
        """Find agents, everybody's."""
        found = [_view(hermes, row) for row in await hermes.agents.rows(AgentFilter(limit=LISTED_MAX))]
        kept = [
            one
            for one in found
            if data.status in (None, one["status"])
            if data.agent_type in (None, one["agent_type"])
            if set(data.capabilities) <= set(one["capabilities"])
            if set(data.services) <= set(one["services"])
        ]
        return {"agents": kept, "count": len(kept)}

    @get("/", opt=READ)
    async def all(
        self,
        hermes: Hermes,
        agent_type: Word = None,
        region: Word = None,
        reputation_min: FromQuery[float | None] = None,
        agent_id: Word = None,
        limit: FromQuery[Limit] = 100,
    ) -> list[dict[str, Any]]:
        """List agents, the newest first."""
        found = [_view(hermes, row) for row in await hermes.agents.rows(AgentFilter(limit=LISTED_MAX))]
        return [
            one
            for one in found
            if agent_type in (None, one["agent_type"])
            if region in (None, one["region"])
            if agent_id in (None, one["agent_id"])
            if reputation_min is None or one["reputation"] >= reputation_min
        ][:limit]

    @get("/{agent:str}", opt=READ)
    async def one(self, hermes: Hermes, who: Who, agent: FromPath[str]) -> dict[str, Any]:
        """Read an agent, by our id or by the one that its client chose."""
        return _view(hermes, await hermes.agents.named(who, agent))

    @put("/{agent:str}/status", opt=WRITE)
    async def status(
        self, hermes: Hermes, who: Who, agent: FromPath[str], data: JSONBody[StatusBody]
    ) -> dict[str, Any]:
        """Say how an agent of the caller's is: any word but a few for being away counts as active."""
        row = await hermes.agents.named(who, agent)
        state: Literal["paused", "active"] = "paused" if data.status in ("inactive", "offline", "paused") else "active"
        await hermes.agents.heartbeat(who, row.id, state)
        return {"message": "Agent status updated"} | _view(hermes, await hermes.agents.row(row.id))

    @get("/{agent:str}/reputation", opt=READ)
    async def reputation(self, hermes: Hermes, who: Who, agent: FromPath[str]) -> dict[str, Any]:
        """What is known of an agent from settled runs."""
        row = await hermes.agents.named(who, agent)
        known = reputation_of(row)
        return {
            "agent_id": row.handle or row.id,
            "reputation": known.success,
            "completed": known.completed,
            "failed": known.failed,
        }

    @get("/{agent:str}/balance", opt=READ)
    async def balance(self, hermes: Hermes, who: Who, agent: FromPath[str]) -> dict[str, Any]:
        """What the account of an agent of the caller's can spend."""
        row = await hermes.agents.named(who, agent)
        if not who.owns(row.account):
            raise AgentNotFound
        found = await hermes.trading.balance(row.account)
        return {
            "agent_id": row.handle or row.id,
            "balance": found.available_units / 10**8,
            "held": found.held_units / 10**8,
            "currency": "AITBC",
        }


class CoordinatorAgents(LegacyAgents):
    """The same at the older coordinator."""


def _words(said: list[str] | dict[str, Any] | str) -> list[str]:
    """Capabilities as a list: some clients send them in one text with commas, or as an object."""
    return [one.strip() for one in said.split(",") if one.strip()] if isinstance(said, str) else list(said)


def _view(hermes: Any, row: AgentRow) -> dict[str, Any]:
    said = msgspec.json.decode(row.details, type=dict[str, Any])
    skills = [skill.id for skill in skills_of(row)]
    online = is_online(row, hermes.settings.online_seconds)
    capabilities = said.get("capabilities") or skills
    return {
        "agent_id": row.handle or row.id,
        "id": row.id,
        "status": ("active" if online else "offline") if row.state == "active" else "inactive",
        "agent_type": said.get("agent_type", "provider"),
        "capabilities": list(capabilities),
        "services": said.get("services", skills),
        "endpoints": said.get("endpoints", {} if row.endpoint is None else {"a2a": row.endpoint}),
        "metadata": said.get("metadata", {}),
        "region": said.get("region"),
        "reputation": reputation_of(row).success,
        "registration_time": row.created_at.isoformat(),
        "last_heartbeat": None if row.heartbeat_at is None else row.heartbeat_at.isoformat(),
    }

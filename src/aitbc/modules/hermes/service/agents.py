"""Agents: registered, changed and retired by their owners, and found by everybody."""

from collections.abc import Sequence

from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.platform import Egress
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import NotDone
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.plans import check_skills, most_units, servers_of
from aitbc.modules.hermes.models.shapes import Agent, AgentLimits, AgentSkill
from aitbc.modules.hermes.models.tables import AgentRow
from aitbc.modules.hermes.service.commands import (
    AgentChanged,
    AgentFilter,
    AgentNameTaken,
    ChangeAgent,
    RegisterAgent,
    TooManyAgents,
)
from aitbc.modules.hermes.service.settings import HermesSettings
from aitbc.modules.hermes.service.views import agent_view, encoded


class Agents:
    """Keeps agents."""

    def __init__(self, db: Database, egress: Egress | None, settings: HermesSettings) -> None:
        self._db = db
        self._egress = egress
        self._settings = settings

    @retrying
    async def register(self, who: Principal, wanted: RegisterAgent, once: IdempotencyKey) -> Agent:
        """Register an agent of the caller's.

        Raises `AgentPlanInvalid`, `InvalidAmount`, `DestinationRefused`, `AgentNameTaken`, `TooManyAgents`.
        """
        check_skills(wanted.skills, has_endpoint=wanted.endpoint is not None)
        _check_limits(wanted.limits)
        self._check_places(wanted.skills, wanted.endpoint)
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, Agent)) is not None:
                return stored
            await self._require_room(uow, who, wanted.handle)
            row = _row(who, wanted)
            uow.add(row)
            await uow.session.flush()
            await uow.audit(who.account, who.key, "agent.register", row.id)
            return await uow.answer(once, self._view(row))

    def _check_places(self, skills: Sequence[AgentSkill], endpoint: str | None = None) -> None:
        """Check the places outside that an agent has and uses. Raises `DestinationRefused`, `NotDone`."""
        for place in sorted(servers_of(skills) | ({endpoint} if endpoint is not None else set())):
            if self._egress is None:
                raise NotDone("This process sends nothing outside.")
            self._egress.check(place)

    async def _require_room(self, uow: UnitOfWork, who: Principal, handle: str | None) -> None:
        mine = (AgentRow.account == who.account, AgentRow.state != "retired")
        count = await uow.session.scalar(select(func.count()).select_from(AgentRow).where(*mine))
        if (count or 0) >= self._settings.agents_max:
            raise TooManyAgents
        if handle is not None and await uow.session.scalar(select(AgentRow.id).where(*mine, AgentRow.handle == handle)):
            raise AgentNameTaken

    async def find(self, agent: str) -> Agent:
        """An agent, whoever registered it. Raises `AgentNotFound`."""
        return self._view(await self.row(agent))

    async def row(self, agent: str) -> AgentRow:
        """An agent's row. Raises `AgentNotFound`."""
        async with self._db.unit_of_work() as uow:
            return await uow.find(AgentRow, agent, missing=AgentNotFound)

    async def named(self, who: Principal, handle: str) -> AgentRow:
        """An agent by its id, or by the id that a client of this account chose. Raises `AgentNotFound`."""
        if ids.is_id("agt", handle):
            return await self.row(handle)
        mine = (AgentRow.account == who.account, AgentRow.handle == handle, AgentRow.state != "retired")
        async with self._db.reading() as session:
            row = (await session.scalars(select(AgentRow).where(*mine))).one_or_none()
        if row is None:
            raise AgentNotFound
        return row

    async def page(self, wanted: AgentFilter) -> Sequence[Agent]:
        """Agents from the newest on: an account's own, or everybody's that are active."""
        return list(map(self._view, await self.rows(wanted)))

    async def rows(self, wanted: AgentFilter) -> Sequence[AgentRow]:
        """The rows of `page`."""
        found = select(AgentRow).order_by(AgentRow.id.desc())
        if wanted.account is not None:
            found = found.where(AgentRow.account == wanted.account)
        else:
            found = found.where(AgentRow.state == "active")
        if wanted.after is not None:
            found = found.where(AgentRow.id < wanted.after)
        if wanted.tag is not None:
            found = found.where(AgentRow.words.contains([wanted.tag]))
        async with self._db.reading() as session:
            return (await session.scalars(found.limit(wanted.limit))).all()

    @retrying
    async def change(self, who: Principal, agent: str, wanted: ChangeAgent, once: IdempotencyKey) -> Agent:
        """Change an agent of the caller's; runs that are under way keep what they began with.

        Raises `AgentNotFound`, `AgentChanged`, `AgentPlanInvalid`, `InvalidAmount`, `DestinationRefused`.
        """
        for skill in wanted.skills or ():
            most_units(skill)
        self._check_places(wanted.skills or ())
        if wanted.limits is not None:
            _check_limits(wanted.limits)
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, Agent)) is not None:
                return stored
            row = await self._own(uow, who, agent)
            if row.version != wanted.version or row.state == "retired":
                raise AgentChanged
            if wanted.skills is not None:
                check_skills(wanted.skills, has_endpoint=row.endpoint is not None)
                row.skills, row.words = encoded(wanted.skills), words_of(wanted.skills)
            if wanted.limits is not None:
                row.limits = encoded(wanted.limits)
            row.name = wanted.name if wanted.name is not None else row.name
            row.description = wanted.description if wanted.description is not None else row.description
            row.state = wanted.state or row.state
            row.version += 1
            row.changed_at = now()
            await uow.audit(who.account, who.key, "agent.change", row.id)
            return await uow.answer(once, self._view(row))

    @retrying
    async def heartbeat(self, who: Principal, agent: str, state: str | None = None) -> Agent:
        """Note that an agent of the caller's is there, and perhaps whether it takes calls. Raises `AgentNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, agent)
            if row.state == "retired":
                raise AgentNotFound
            row.heartbeat_at = now()
            row.state = state or row.state
            return self._view(row)

    async def _own(self, uow: UnitOfWork, who: Principal, agent: str) -> AgentRow:
        row = await uow.find(AgentRow, agent, lock=True, missing=AgentNotFound)
        if row.account != who.account:
            raise AgentNotFound
        return row

    def _view(self, row: AgentRow) -> Agent:
        return agent_view(row, self._settings.online_seconds)


def _check_limits(limits: AgentLimits) -> None:
    for amount in (limits.spend_per_run, limits.spend_per_day):
        if amount is not None:
            money.parse(amount)


def words_of(skills: Sequence[AgentSkill]) -> list[str]:
    """The ids and tags of skills, each once."""
    return sorted({skill.id for skill in skills}.union(*(skill.tags for skill in skills)))


def _row(who: Principal, wanted: RegisterAgent) -> AgentRow:
    at = now()
    return AgentRow(
        id=ids.new_id("agt"),
        account=who.account,
        handle=wanted.handle,
        name=wanted.name,
        description=wanted.description,
        endpoint=wanted.endpoint,
        interface=None,
        skills=encoded(wanted.skills),
        words=words_of(wanted.skills),
        limits=encoded(wanted.limits),
        details=encoded(wanted.details),
        state="active",
        version=1,
        heartbeat_at=None,
        probe_due_at=at,
        probed_at=None,
        fault="",
        completed=0,
        failed=0,
        milliseconds=0,
        created_at=at,
        changed_at=at,
    )

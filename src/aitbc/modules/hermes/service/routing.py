"""Routing over the agents that are registered now."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import money
from aitbc.modules.hermes.models.plans import most_units
from aitbc.modules.hermes.models.routing import Candidate, Ranked, Terms, Wish, rank
from aitbc.modules.hermes.models.tables import AgentRow
from aitbc.modules.hermes.service.commands import NoAgentFits
from aitbc.modules.hermes.service.settings import HermesSettings
from aitbc.modules.hermes.service.views import is_online, reputation_of, skills_of

SNAPSHOT_MAX = 5_000
"""How many agents a snapshot holds; the newest count where there are more."""


class AgentChoice(Struct, frozen=True, kw_only=True):
    """A skill that fits, and how well."""

    agent: str
    """The agent. For example `agt_01k0000000000000000000000a`."""
    name: str
    """What it is called. For example `Editor`."""
    skill: str
    """Its skill. For example `summarize`."""
    price: str
    """What the call costs beside its steps, in AITBC. For example `0.5`."""
    most: str
    """The most that the call can cost with its steps, in AITBC. For example `0.75`."""
    seconds: float | None
    """How long a run took on average, in seconds; null where nothing is known. For example `4.2`."""
    score: float
    """How well it fits, from 0 to 1. For example `0.87`."""
    terms: Terms
    """What the score is made of."""


class AgentRouting:
    """Chooses agents."""

    def __init__(self, db: Database, settings: HermesSettings) -> None:
        self._db = db
        self._settings = settings

    async def best(self, wish: Wish, limit: int) -> Sequence[AgentChoice]:
        """Those that fit best. Raises `NoAgentFits` with what each condition left over, and with what would fit."""
        ranking = rank(await self._snapshot(), wish)
        if not ranking.ranked:
            raise NoAgentFits(left=dict(ranking.left), would_fit=list(ranking.nearest))
        return list(map(_choice, ranking.ranked[:limit]))

    async def choose(self, skill: str, budget_units: int) -> str:
        """The agent for a step that names a skill only. Raises `NoAgentFits`."""
        (found, *_) = await self.best(Wish(skill=skill, max_units=budget_units), 1)
        return found.agent

    async def _snapshot(self) -> Sequence[Candidate]:
        active = select(AgentRow).where(AgentRow.state == "active").order_by(AgentRow.id.desc()).limit(SNAPSHOT_MAX)
        async with self._db.reading() as session:
            rows = (await session.scalars(active)).all()
        return [candidate for row in rows for candidate in self._candidates(row)]

    def _candidates(self, row: AgentRow) -> Sequence[Candidate]:
        known, online = reputation_of(row), is_online(row, self._settings.online_seconds)
        return [
            Candidate(
                agent=row.id,
                name=row.name,
                skill=skill,
                is_online=online,
                success=known.success,
                seconds=known.seconds,
            )
            for skill in skills_of(row)
        ]


def _choice(one: Ranked) -> AgentChoice:
    skill = one.candidate.skill
    return AgentChoice(
        agent=one.candidate.agent,
        name=one.candidate.name,
        skill=skill.id,
        price=skill.price,
        most=money.render(most_units(skill)),
        seconds=one.candidate.seconds,
        score=one.score,
        terms=one.terms,
    )

"""Deployments: declared, changed, rolled back and ended by their owners; where each is, is their edges' word."""

from collections.abc import Sequence

from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.models.edge_shapes import Coordination, Deployment, EdgeNeeds
from aitbc.modules.hermes.models.edge_tables import DeploymentRow, DeploymentVersionRow
from aitbc.modules.hermes.models.rollout import chosen
from aitbc.modules.hermes.service.deployment_rows import (
    content_of,
    coordination_of,
    deployment_views,
    place,
    roll_back,
    set_state,
    spots_of,
    withdraw,
)
from aitbc.modules.hermes.service.edge_commands import (
    Deploy,
    DeploymentContent,
    DeploymentEnded,
    DeploymentNotFound,
    DeploymentRolling,
    DeploymentToken,
    EdgeChosen,
    NoEdgeServes,
    ServeAgent,
    ServeModel,
    TooManyDeployments,
)
from aitbc.modules.hermes.service.edge_tokens import EdgeTokens
from aitbc.modules.hermes.service.edge_work import EdgeWork
from aitbc.modules.hermes.service.settings import HermesSettings
from aitbc.modules.hermes.service.views import encoded

OVER = ("failed", "ended")


class Deployments:
    """Keeps deployments."""

    def __init__(self, db: Database, work: EdgeWork, tokens: EdgeTokens, settings: HermesSettings) -> None:
        self._db = db
        self._work = work
        self._tokens = tokens
        self._settings = settings

    async def create(self, who: Principal, wanted: Deploy, once: IdempotencyKey) -> Deployment:
        """Have edges of the caller's serve something; each location is answered for, those without an edge too.

        Raises `EdgeWorkInvalid`, `AgentNotFound`, `AgentSkillNotFound`, `TooManyDeployments`.
        """
        content = await self._work.of(who, wanted.content, wanted.needs)
        return await self._create(who, wanted, content, once)

    @retrying
    async def _create(
        self, who: Principal, wanted: Deploy, content: DeploymentContent, once: IdempotencyKey
    ) -> Deployment:
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, Deployment)) is not None:
                return stored
            mine = (DeploymentRow.account == who.account, DeploymentRow.state.not_in(OVER))
            count = await uow.session.scalar(select(func.count()).select_from(DeploymentRow).where(*mine))
            if (count or 0) >= self._settings.deployments_max:
                raise TooManyDeployments
            row = _row(who, wanted)
            uow.add(row)
            await uow.session.flush()
            uow.add(_version(row, content))
            await uow.session.flush()
            await place(uow, row, content.needs)
            set_state(uow, row, "rolling")
            await uow.audit(who.account, who.key, "deployment.create", row.id)
            return await uow.answer(once, await self._view(uow, row))

    async def change(
        self,
        who: Principal,
        deployment: str,
        wanted: ServeModel | ServeAgent,
        needs: EdgeNeeds,
        once: IdempotencyKey,
    ) -> Deployment:
        """Roll out another version.

        Raises as `create`, and `DeploymentNotFound`, `DeploymentEnded`, `DeploymentRolling`.
        """
        content = await self._work.of(who, wanted, needs)
        return await self._change(who, deployment, content, once)

    @retrying
    async def _change(
        self, who: Principal, deployment: str, content: DeploymentContent, once: IdempotencyKey
    ) -> Deployment:
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, Deployment)) is not None:
                return stored
            row = await self._own(uow, who, deployment)
            _require_open(row)
            if row.state == "rolling":
                raise DeploymentRolling
            row.version += 1
            row.target, row.problem = row.version, ""
            uow.add(_version(row, content))
            await place(uow, row, content.needs)
            set_state(uow, row, "rolling")
            await uow.audit(who.account, who.key, "deployment.change", row.id)
            return await uow.answer(once, await self._view(uow, row))

    @retrying
    async def roll_back(self, who: Principal, deployment: str) -> Deployment:
        """Give up the version that is on its way. Raises `DeploymentNotFound`, `DeploymentEnded`.

        Where none is on its way nothing happens.
        """
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, deployment)
            _require_open(row)
            if row.state == "rolling":
                await roll_back(uow, row, "rolled_back_by_owner")
                await uow.audit(who.account, who.key, "deployment.roll_back", row.id)
            return await self._view(uow, row)

    @retrying
    async def scale(self, who: Principal, deployment: str, replicas: int) -> Deployment:
        """Say how many edges of each location are to serve it. Raises `DeploymentNotFound`, `DeploymentEnded`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, deployment)
            _require_open(row)
            row.replicas, row.changed_at = replicas, now()
            version = await uow.session.get_one(DeploymentVersionRow, (row.id, row.target or row.version))
            await place(uow, row, content_of(version).needs)
            await uow.audit(who.account, who.key, "deployment.scale", row.id)
            return await self._view(uow, row)

    @retrying
    async def coordinate(self, who: Principal, deployment: str, wanted: Coordination) -> Deployment:
        """Say how callers are spread. Raises `DeploymentNotFound`, `DeploymentEnded`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, deployment)
            _require_open(row)
            row.coordination, row.changed_at = encoded(wanted), now()
            await uow.audit(who.account, who.key, "deployment.coordinate", row.id)
            return await self._view(uow, row)

    @retrying
    async def end(self, who: Principal, deployment: str) -> Deployment:
        """End it: its edges stop serving it with their next report. Raises `DeploymentNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, deployment)
            if row.state not in OVER:
                await withdraw(uow, row, 0)
                row.target = 0
                set_state(uow, row, "ended")
                await uow.audit(who.account, who.key, "deployment.end", row.id)
            return await self._view(uow, row)

    async def find(self, who: Principal, deployment: str) -> Deployment:
        """A deployment of the caller's. Raises `DeploymentNotFound`."""
        async with self._db.unit_of_work() as uow:
            return await self._view(uow, await self._own(uow, who, deployment, lock=False))

    async def page(self, who: Principal, *, after: str | None = None, limit: int = 100) -> Sequence[Deployment]:
        """The caller's deployments, from the newest on."""
        found = select(DeploymentRow).where(DeploymentRow.account == who.account)
        if after is not None:
            found = found.where(DeploymentRow.id < after)
        async with self._db.reading() as session:
            rows = (await session.scalars(found.order_by(DeploymentRow.id.desc()).limit(limit))).all()
            return await deployment_views(session, rows)

    @retrying
    async def choose(self, who: Principal, deployment: str) -> EdgeChosen:
        """The edge for the next caller, as the coordination says. Raises `DeploymentNotFound`, `NoEdgeServes`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, deployment)
            spots = await spots_of(uow.session, row.id)
            edge = chosen([one.spot for one in spots], coordination_of(row).balancing, row.turn)
            if edge is None:
                raise NoEdgeServes
            row.turn += 1
            found = next(one for one in spots if one.spot.edge == edge)
            return EdgeChosen(edge=edge, location=found.placement.location, address=found.edge.address)

    async def token(self, who: Principal, deployment: str) -> DeploymentToken:
        """What callers show at its edges. Raises `DeploymentNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, deployment, lock=False)
            return DeploymentToken(token=self._tokens.of(row.id))

    async def _own(self, uow: UnitOfWork, who: Principal, deployment: str, *, lock: bool = True) -> DeploymentRow:
        row = await uow.find(DeploymentRow, deployment, lock=lock, missing=DeploymentNotFound)
        if row.account != who.account:
            raise DeploymentNotFound
        return row

    async def _view(self, uow: UnitOfWork, row: DeploymentRow) -> Deployment:
        await uow.session.flush()
        return (await deployment_views(uow.session, [row]))[0]


def _require_open(row: DeploymentRow) -> None:
    if row.state in OVER:
        raise DeploymentEnded


def _version(row: DeploymentRow, content: DeploymentContent) -> DeploymentVersionRow:
    return DeploymentVersionRow(deployment=row.id, number=row.version, content=encoded(content), created_at=now())


def _row(who: Principal, wanted: Deploy) -> DeploymentRow:
    at = now()
    return DeploymentRow(
        id=ids.new_id("dep"),
        account=who.account,
        name=wanted.name,
        locations=encoded(list(dict.fromkeys(wanted.locations))),
        replicas=wanted.replicas,
        plan=encoded(wanted.plan),
        coordination=encoded(wanted.coordination),
        turn=0,
        state="rolling",
        problem="",
        version=1,
        target=1,
        good=0,
        created_at=at,
        changed_at=at,
    )

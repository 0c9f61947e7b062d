"""Edges: miners that serve deployments, what they report, and what they are told."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, update

from aitbc.kernel.crypto.signing import canonical, digest, verify
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.gpu.api import GpuApi, MinerNotFound
from aitbc.modules.hermes.models.edge_shapes import Edge
from aitbc.modules.hermes.models.edge_tables import DeploymentRow, DeploymentVersionRow, EdgeRow, PlacementRow
from aitbc.modules.hermes.models.rollout import presence
from aitbc.modules.hermes.service.deployment_rows import content_of
from aitbc.modules.hermes.service.edge_commands import (
    DesiredWork,
    EdgeNotFound,
    EdgeState,
    EdgeTold,
    Neighbour,
    ReportEdge,
    SignOfLife,
    TooManyEdges,
)
from aitbc.modules.hermes.service.edge_tokens import EdgeTokens
from aitbc.modules.hermes.service.settings import HermesSettings

NEIGHBOURS_MAX = 16
LIFE_STATEMENT = "aitbc.edge-life.v1"
AHEAD = timedelta(minutes=1)
"""How far the clock of a neighbour may be ahead."""


class Edges:
    """Keeps edges, and speaks with them."""

    def __init__(self, db: Database, gpu: GpuApi, tokens: EdgeTokens, settings: HermesSettings) -> None:
        self._db = db
        self._gpu = gpu
        self._tokens = tokens
        self._settings = settings

    async def register(self, who: Principal, miner: str, location: str, once: IdempotencyKey) -> Edge:
        """Make a miner of the caller's an edge, or move it to another location.

        Raises `MinerNotFound`, `TooManyEdges`.
        """
        found = await self._gpu.miner(miner)
        if found.account != who.account or found.status == "removed":
            raise MinerNotFound
        host = found.inventory.host
        return await self._keep(who, miner, location, found.public_key, (host.memory_mib, host.disk_free_mib), once)

    @retrying
    async def _keep(
        self,
        who: Principal,
        miner: str,
        location: str,
        public_key: str,
        room: tuple[int | None, int | None],
        once: IdempotencyKey,
    ) -> Edge:
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, Edge)) is not None:
                return stored
            row = await uow.session.get(EdgeRow, miner, with_for_update={"key_share": True})
            if row is None or row.removed_at is not None:
                await self._require_room(uow, who)
            if row is None:
                row = EdgeRow(id=miner, account=who.account, address=None, reported_at=None, vouched_at=None)
                row.created_at = now()
                uow.add(row)
            row.location, row.public_key, row.removed_at = location, public_key, None
            row.memory_mib, row.disk_mib = room
            await uow.session.flush()
            await uow.audit(who.account, who.key, "edge.register", miner)
            return await uow.answer(once, edge_view(row))

    async def _require_room(self, uow: UnitOfWork, who: Principal) -> None:
        mine = (EdgeRow.account == who.account, EdgeRow.removed_at.is_(None))
        count = await uow.session.scalar(select(func.count()).select_from(EdgeRow).where(*mine))
        if (count or 0) >= self._settings.edges_max:
            raise TooManyEdges

    async def page(
        self, who: Principal, *, location: str | None = None, after: str | None = None, limit: int = 1000
    ) -> Sequence[Edge]:
        """The caller's edges, from the newest miner on."""
        found = select(EdgeRow).where(EdgeRow.account == who.account, EdgeRow.removed_at.is_(None))
        if location is not None:
            found = found.where(EdgeRow.location == location)
        if after is not None:
            found = found.where(EdgeRow.id < after)
        async with self._db.reading() as session:
            return [edge_view(row) for row in await session.scalars(found.order_by(EdgeRow.id.desc()).limit(limit))]

    async def find(self, who: Principal, miner: str) -> Edge:
        """An edge of the caller's. Raises `EdgeNotFound`."""
        async with self._db.unit_of_work() as uow:
            return edge_view(await self._own(uow, who, miner))

    @retrying
    async def remove(self, who: Principal, miner: str) -> Edge:
        """Make an edge a plain miner again; what it served ends with its next report. Raises `EdgeNotFound`."""
        gone = update(PlacementRow).where(PlacementRow.edge == miner)
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, miner, lock=True)
            row.removed_at = now()
            await uow.session.execute(gone.values(is_wanted=False, wanted=0, serves=0, state="waiting", since=now()))
            await uow.audit(who.account, who.key, "edge.remove", miner)
            return edge_view(row)

    async def _own(self, uow: UnitOfWork, who: Principal, miner: str, *, lock: bool = False) -> EdgeRow:
        row = await uow.find(EdgeRow, miner, lock=lock, missing=EdgeNotFound)
        if row.account != who.account or row.removed_at is not None:
            raise EdgeNotFound
        return row

    @retrying
    async def report(self, who: Principal, said: ReportEdge) -> EdgeTold:
        """Note what an edge says, and tell it what it is to serve. Raises `EdgeNotFound` where its miner is none."""
        async with self._db.unit_of_work() as uow:
            row = await self._own(uow, who, who.subject or "", lock=True)
            row.reported_at, row.address = now(), said.address
            row.memory_mib = row.memory_mib if said.memory_mib is None else said.memory_mib
            row.disk_mib = row.disk_mib if said.disk_mib is None else said.disk_mib
            here = (PlacementRow.edge == row.id, (PlacementRow.wanted > 0) | (PlacementRow.serves > 0))
            placements = select(PlacementRow).where(*here).order_by(PlacementRow.deployment).with_for_update()
            rows = (await uow.session.scalars(placements)).all()
            told = {one.deployment: one for one in said.states}
            for placement in rows:
                _note(placement, told.get(placement.deployment))
            await self._vouch(uow, row, said.relayed)
            return EdgeTold(
                desired=await self._desired(uow, [one for one in rows if one.wanted > 0]),
                neighbours=await self._neighbours(uow, row),
                report_seconds=self._settings.report_seconds,
            )

    async def _desired(self, uow: UnitOfWork, placements: Sequence[PlacementRow]) -> tuple[DesiredWork, ...]:
        wanted = {(one.deployment, one.wanted) for one in placements}
        of = (DeploymentVersionRow.deployment == DeploymentRow.id, DeploymentRow.id.in_({one for one, _ in wanted}))
        found = select(DeploymentRow.name, DeploymentVersionRow).join_from(DeploymentRow, DeploymentVersionRow, of[0])
        desired = []
        for name, version in (await uow.session.execute(found.where(of[1]))).all():
            if (version.deployment, version.number) in wanted:
                desired.append(
                    DesiredWork(
                        deployment=version.deployment,
                        name=name,
                        version=version.number,
                        steps=content_of(version).steps,
                        token_digest=digest(self._tokens.of(version.deployment).encode()),
                    )
                )
        return tuple(sorted(desired, key=lambda one: one.deployment))

    async def _neighbours(self, uow: UnitOfWork, row: EdgeRow) -> tuple[Neighbour, ...]:
        near = (EdgeRow.account == row.account, EdgeRow.location == row.location, EdgeRow.removed_at.is_(None))
        found = select(EdgeRow.id, EdgeRow.address).where(*near, EdgeRow.id != row.id, EdgeRow.address.is_not(None))
        rows = (await uow.session.execute(found.order_by(EdgeRow.id).limit(NEIGHBOURS_MAX))).all()
        return tuple(Neighbour(edge=edge, address=address or "") for edge, address in rows)

    async def _vouch(self, uow: UnitOfWork, row: EdgeRow, relayed: Sequence[SignOfLife]) -> None:
        """Note neighbours that are alive; what was not signed by them, or is no news, is passed over."""
        near = (
            EdgeRow.account == row.account,
            EdgeRow.id.in_({one.edge for one in relayed if ids.is_id("mnr", one.edge)}),
        )
        neighbours = (await uow.session.scalars(select(EdgeRow).where(*near, EdgeRow.id != row.id))).all()
        found = {one.id: one for one in neighbours}
        for sign in relayed:
            neighbour = found.get(sign.edge)
            if neighbour is None or not verify(neighbour.public_key, life_bytes(sign.edge, sign.at), sign.signature):
                continue
            at = _moment(sign.at)
            if at is None or at > now() + AHEAD:
                continue
            newer = (EdgeRow.vouched_at.is_(None)) | (EdgeRow.vouched_at < at)
            await uow.session.execute(
                update(EdgeRow).where(EdgeRow.id == sign.edge, newer).values(vouched_at=min(at, now()))
            )


def life_bytes(edge: str, at: int) -> bytes:
    """What an edge signs to show that it was alive at a time, in milliseconds since 1970."""
    return canonical({"statement": LIFE_STATEMENT, "edge": edge, "at": at})


def _moment(milliseconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _note(placement: PlacementRow, said: EdgeState | None) -> None:
    """What an edge says of a deployment; of one that it does not name it serves nothing yet."""
    placement.serves = 0 if said is None else said.serves
    if said is None or said.version != placement.wanted or said.version == 0:
        return
    if said.state != placement.state:
        placement.state, placement.since = said.state, now()
    placement.problem = said.problem if said.state == "failed" else ""


def edge_view(row: EdgeRow) -> Edge:
    """An edge as everyone speaks of it."""
    return Edge(
        miner=row.id,
        location=row.location,
        presence=presence(row.reported_at, row.vouched_at, now()),
        address=row.address,
        reported_at=row.reported_at,
        vouched_at=row.vouched_at,
        created_at=row.created_at,
    )

"""Rows of deployments: read together with their edges, shown, placed on edges, and taken to other states."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.events import DeploymentChanged
from aitbc.modules.hermes.models.edge_shapes import (
    Coordination,
    Deployment,
    DeploymentEdge,
    DeploymentLocation,
    EdgeNeeds,
    RolloutPlan,
)
from aitbc.modules.hermes.models.edge_tables import DeploymentRow, DeploymentVersionRow, EdgeRow, PlacementRow
from aitbc.modules.hermes.models.rollout import Spot, fits, presence
from aitbc.modules.hermes.service.edge_commands import DeploymentContent


class Placed(Struct, frozen=True):
    """A deployment at one edge: both rows, and what a roll-out must know of them."""

    placement: PlacementRow
    edge: EdgeRow
    spot: Spot


async def spots_of(session: AsyncSession, deployment: str, *, lock: bool = False) -> Sequence[Placed]:
    """The edges that are to serve a deployment, by their ids."""
    return (await _spots_of(session, [deployment], lock=lock)).get(deployment, ())


async def _spots_of(
    session: AsyncSession, deployments: Sequence[str], *, lock: bool = False
) -> Mapping[str, Sequence[Placed]]:
    here = (PlacementRow.deployment.in_(deployments), PlacementRow.is_wanted)
    found = select(PlacementRow, EdgeRow).join(EdgeRow, EdgeRow.id == PlacementRow.edge).where(*here)
    found = found.order_by(PlacementRow.deployment, PlacementRow.edge)
    if lock:
        found = found.with_for_update(of=PlacementRow)
    placed: dict[str, list[Placed]] = {}
    for placement, edge in (await session.execute(found)).all():
        placed.setdefault(placement.deployment, []).append(Placed(placement, edge, _spot(placement, edge)))
    return placed


def _spot(placement: PlacementRow, edge: EdgeRow) -> Spot:
    return Spot(
        edge=edge.id,
        presence=presence(edge.reported_at, edge.vouched_at, now()),
        wanted=placement.wanted,
        serves=placement.serves,
        state=placement.state,
        since=placement.since,
    )


async def place(uow: UnitOfWork, row: DeploymentRow, needs: EdgeNeeds) -> None:
    """Choose the edges of a deployment: of each location those that have room, as many as are wanted, by their ids.

    Those that serve it already are kept as far as they are wanted still. Nothing is told to them yet.
    """
    known = {one.edge: one for one in await _placements(uow, row.id)}
    wanted: dict[str, EdgeRow] = {}
    for location in locations_of(row):
        mine = (EdgeRow.account == row.account, EdgeRow.location == location, EdgeRow.removed_at.is_(None))
        edges = (await uow.session.scalars(select(EdgeRow).where(*mine).order_by(EdgeRow.id))).all()
        able = [edge for edge in edges if _has_room(edge, needs)]
        able.sort(key=lambda edge: edge.id not in known)
        wanted.update({edge.id: edge for edge in able[: row.replicas]})
    for edge in wanted.values():
        placement = known.get(edge.id)
        if placement is None:
            uow.add(_placement(row, edge))
        else:
            placement.is_wanted, placement.location = True, edge.location
    for edge_id, placement in known.items():
        if edge_id not in wanted and placement.is_wanted:
            placement.is_wanted = False
            _tell(placement, 0)


async def _placements(uow: UnitOfWork, deployment: str) -> Sequence[PlacementRow]:
    found = select(PlacementRow).where(PlacementRow.deployment == deployment).order_by(PlacementRow.edge)
    return (await uow.session.scalars(found.with_for_update())).all()


def _has_room(edge: EdgeRow, needs: EdgeNeeds) -> bool:
    return fits(needs.memory_mib, edge.memory_mib) and fits(needs.disk_mib, edge.disk_mib)


def _placement(row: DeploymentRow, edge: EdgeRow) -> PlacementRow:
    return PlacementRow(
        deployment=row.id,
        edge=edge.id,
        location=edge.location,
        is_wanted=True,
        wanted=0,
        serves=0,
        state="waiting",
        problem="",
        since=now(),
        served=0,
        broken=0,
        cut_off=0,
    )


def _tell(placement: PlacementRow, version: int) -> None:
    placement.wanted, placement.state, placement.problem, placement.since = version, "waiting", "", now()


def tell(placed: Sequence[Placed], edges: Sequence[str], version: int) -> None:
    """Have these edges serve a version from their next report on."""
    for one in placed:
        if one.placement.edge in edges:
            _tell(one.placement, version)


async def withdraw(uow: UnitOfWork, row: DeploymentRow, to: int) -> None:
    """Take the target from every edge that was told of it; they get this version instead, 0 for none."""
    told = (PlacementRow.deployment == row.id, PlacementRow.wanted == row.target, PlacementRow.wanted > 0)
    values = {"wanted": to, "state": "waiting", "problem": "", "since": now()}
    await uow.session.execute(update(PlacementRow).where(*told).values(**values))


async def roll_back(uow: UnitOfWork, row: DeploymentRow, problem: str) -> None:
    """Give up the target: its edges go back to the last good version, or to none where there is none."""
    await withdraw(uow, row, row.good)
    row.target, row.problem = row.good, problem
    set_state(uow, row, "rolled_back" if row.good else "failed")


def set_state(uow: UnitOfWork, row: DeploymentRow, state: str) -> None:
    """Take a deployment to a state, and tell its owner."""
    row.state, row.changed_at = state, now()
    changed = DeploymentChanged(
        deployment=row.id, account=row.account, state=state, version=row.version, target=row.target, problem=row.problem
    )
    uow.publish(changed)


def content_of(version: DeploymentVersionRow) -> DeploymentContent:
    """What a version does."""
    return msgspec.json.decode(version.content, type=DeploymentContent)


def locations_of(row: DeploymentRow) -> list[str]:
    """The locations that were asked for."""
    return msgspec.json.decode(row.locations, type=list[str])


def coordination_of(row: DeploymentRow) -> Coordination:
    """How callers are spread."""
    return msgspec.json.decode(row.coordination, type=Coordination)


def plan_of(row: DeploymentRow) -> RolloutPlan:
    """How a version is rolled out."""
    return msgspec.json.decode(row.plan, type=RolloutPlan)


async def deployment_views(session: AsyncSession, rows: Sequence[DeploymentRow]) -> Sequence[Deployment]:
    """Deployments as everyone speaks of them."""
    keys = [row.id for row in rows]
    newest = select(DeploymentVersionRow).join(DeploymentRow, DeploymentRow.id == DeploymentVersionRow.deployment)
    newest = newest.where(DeploymentRow.id.in_(keys), DeploymentVersionRow.number == DeploymentRow.version)
    contents = {one.deployment: content_of(one) for one in await session.scalars(newest)}
    placed = await _spots_of(session, keys)
    all_of = select(PlacementRow).where(PlacementRow.deployment.in_(keys))
    counted: dict[str, list[int]] = {key: [0, 0, 0] for key in keys}
    for one in await session.scalars(all_of):
        for place_, number in enumerate((one.served, one.broken, one.cut_off)):
            counted[one.deployment][place_] += number
    return [_view(row, contents[row.id], placed.get(row.id, ()), counted[row.id]) for row in rows]


def _view(
    row: DeploymentRow, content: DeploymentContent, placed: Sequence[Placed], counted: Sequence[int]
) -> Deployment:
    served, broken, cut_off = counted
    return Deployment(
        id=row.id,
        account=row.account,
        name=row.name,
        state=row.state,
        problem=row.problem,
        version=row.version,
        target=row.target,
        good=row.good,
        replicas=row.replicas,
        plan=plan_of(row),
        coordination=coordination_of(row),
        steps=content.steps,
        locations=tuple(_location(row, location, placed) for location in locations_of(row)),
        served=served,
        broken=broken,
        served_cut_off=cut_off,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _location(row: DeploymentRow, location: str, placed: Sequence[Placed]) -> DeploymentLocation:
    here = [one for one in placed if one.placement.location == location]
    return DeploymentLocation(
        location=location,
        status=_status(row, here),
        edges=tuple(
            DeploymentEdge(
                miner=one.edge.id,
                presence=one.spot.presence,
                wanted=one.spot.wanted,
                serves=one.spot.serves,
                state=one.spot.state,
                problem=one.placement.problem,
            )
            for one in here
        ),
    )


def _status(row: DeploymentRow, here: Sequence[Placed]) -> str:
    if not here:
        return "no_edge"
    told = [one.spot for one in here if row.target and one.spot.wanted == row.target]
    if any(spot.state == "ready" for spot in told):
        return "ready"
    if any(spot.state == "failed" for spot in told) or row.state == "failed":
        return "failed"
    return "rolling" if told else "waiting"

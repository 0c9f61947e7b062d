"""Swarms: accounts that join, a task that some of them are to agree on, and the votes that were really cast."""

from datetime import timedelta
from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.paging import Limit, Word
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, Forbidden
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.hermes.legacy.caller import READ, WRITE, Hermes
from aitbc.modules.hermes.models.tables import RecordRow
from aitbc.modules.hermes.service.records import RecordNotFound, body_of


class SwarmTooSmall(Conflict):
    """Fewer accounts have joined than are wanted."""

    code = "swarm_too_small"


class JoinBody(Struct, frozen=True, kw_only=True):
    """As what somebody joins."""

    role: Name
    capability: Name
    priority: Name = "normal"
    region: Name | None = None


class CoordinateBody(Struct, frozen=True, kw_only=True):
    """What a swarm is to agree on."""

    task: Text
    collaborators: Annotated[int, Meta(ge=1, le=1000)] = 5
    strategy: Name = "consensus"
    timeout_seconds: Annotated[int, Meta(ge=1, le=604_800)] = 3600


class ConsensusBody(Struct, frozen=True, kw_only=True):
    """From which share on it counts as agreed."""

    consensus_threshold: Annotated[float, Meta(gt=0, le=1)] = 0.7


class VoteBody(Struct, frozen=True, kw_only=True):
    """A vote."""

    agree: bool


class Swarms(Controller):
    """Swarms and their tasks."""

    path = "/swarm"

    @post("/join", status_code=201, opt=WRITE)
    async def join(self, hermes: Hermes, who: Who, data: JSONBody[JoinBody]) -> dict[str, Any]:
        """Join the swarm of a region, or the one of all regions."""
        swarm = f"swarm-{data.region}" if data.region else "swarm"
        body = {"role": data.role, "capability": data.capability, "priority": data.priority, "region": data.region}
        kept = await hermes.records.keep(who, "member", body, parent=swarm, name="member")
        return {"swarm_id": swarm, "member_id": kept.id, "status": "joined"} | body

    @get("/list", opt=READ)
    async def all(
        self, hermes: Hermes, swarm_id: Word = None, status: Word = None, limit: FromQuery[Limit] = 20
    ) -> list[dict[str, Any]]:
        """List the swarms that somebody has joined, with how many have."""
        found: dict[str, list[RecordRow]] = {}
        for row in await hermes.records.below("member"):
            found.setdefault(row.parent, []).append(row)
        swarms = [
            {"swarm_id": name, "status": "active", "members": len(rows), "created_at": rows[0].created_at.isoformat()}
            for name, rows in found.items()
            if swarm_id in (None, name) and status in (None, "active")
        ]
        return swarms[:limit]

    @post("/coordinate", status_code=202, opt=WRITE)
    async def coordinate(self, hermes: Hermes, who: Who, data: JSONBody[CoordinateBody]) -> dict[str, Any]:
        """Have members vote on a task: those who joined first. 409 where too few have."""
        members = list(dict.fromkeys(row.account for row in await hermes.records.below("member")))
        if len(members) < data.collaborators:
            raise SwarmTooSmall(f"{data.collaborators} are wanted, and {len(members)} have joined.")
        body = {
            "task": data.task,
            "strategy": data.strategy,
            "collaborators": members[: data.collaborators],
            "until": (now() + timedelta(seconds=data.timeout_seconds)).timestamp(),
        }
        kept = await hermes.records.keep(who, "task", body)
        return {
            "task_id": kept.id,
            "task": data.task,
            "collaborators": data.collaborators,
            "strategy": data.strategy,
            "timeout_seconds": data.timeout_seconds,
            "status": "voting",
        }

    @get("/tasks/{swarm_task:str}/status", opt=READ)
    async def status(self, hermes: Hermes, who: Who, swarm_task: FromPath[str]) -> dict[str, Any]:
        """How many have voted."""
        body, votes = await _counted(hermes, who, swarm_task)
        members = {row.account for row in await hermes.records.below("member")}
        total = len(body["collaborators"])
        is_over = len(votes) == total or now().timestamp() >= body["until"]
        return {
            "task_id": swarm_task,
            "status": "completed" if is_over else "voting",
            "progress": round(100 * len(votes) / total),
            "active_collaborators": len(members.intersection(body["collaborators"])),
            "total_collaborators": total,
        }

    @post("/tasks/{swarm_task:str}/votes", status_code=201, opt=WRITE)
    async def vote(
        self, hermes: Hermes, who: Who, swarm_task: FromPath[str], data: JSONBody[VoteBody]
    ) -> dict[str, Any]:
        """Vote as one of the collaborators; the last vote before the end counts."""
        body, _ = await _counted(hermes, who, swarm_task)
        if who.account not in body["collaborators"]:
            raise Forbidden("Only its collaborators vote on this task.")
        if now().timestamp() >= body["until"]:
            raise Conflict("The time for votes is over.")
        await hermes.records.keep(who, "vote", {"agree": data.agree}, parent=swarm_task, name="vote")
        return {"task_id": swarm_task, "agree": data.agree}

    @post("/tasks/{swarm_task:str}/consensus", status_code=200, opt=WRITE)
    async def consensus(
        self, hermes: Hermes, who: Who, swarm_task: FromPath[str], data: JSONBody[ConsensusBody]
    ) -> dict[str, Any]:
        """Whether the share of all collaborators who voted yes reaches a threshold."""
        body, votes = await _counted(hermes, who, swarm_task)
        yes = sum(votes.values())
        reached = yes / len(body["collaborators"]) >= data.consensus_threshold
        return {
            "task_id": swarm_task,
            "consensus_threshold": data.consensus_threshold,
            "consensus_reached": reached,
            "votes_yes": yes,
            "votes_no": len(votes) - yes,
            "status": "agreed" if reached else "not_agreed",
        }

    @post("/{swarm:str}/leave", status_code=200, opt=WRITE)
    async def leave(self, hermes: Hermes, who: Who, swarm: FromPath[str]) -> dict[str, Any]:
        """Leave a swarm."""
        if not swarm.isprintable() or not await hermes.records.end(who, "member", swarm):
            raise RecordNotFound("You have not joined this swarm.")
        return {"swarm_id": swarm, "status": "left", "message": "You have left the swarm."}


async def _counted(hermes: Any, who: Any, task: str) -> tuple[dict[str, Any], dict[str, bool]]:
    """What a task is about, and the votes of its collaborators; only they and its maker may see it."""
    row = await hermes.records.one("task", task)
    body = body_of(row)
    if not who.owns(row.account) and who.account not in body["collaborators"]:
        raise RecordNotFound
    votes = {one.account: body_of(one)["agree"] is True for one in await hermes.records.below("vote", task)}
    return body, {account: vote for account, vote in votes.items() if account in body["collaborators"]}

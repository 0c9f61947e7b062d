"""Votes of agents on what they are asked to do together: each is cast by the agent's owner, and by nobody else."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.hermes.models.tables import AgentRow, RecordRow
from aitbc.modules.hermes.service import HermesService
from aitbc.modules.hermes.service.records import RecordNotFound, body_of


class AgentVotes(Struct, frozen=True, kw_only=True):
    """Votes of agents, by their ids."""

    votes: Annotated[dict[str, bool], Meta(min_length=1, max_length=100)]


async def question_of(
    hermes: HermesService, who: Principal, task: Mapping[str, Any], rows: Sequence[AgentRow]
) -> RecordRow:
    """What the agents are asked: a new question, or the earlier one that the task names, of the caller's to them.

    Raises `RecordNotFound`, and what says that the request is wrong.
    """
    agents = sorted(row.id for row in rows)
    earlier = task.get("decision_id")
    if earlier is None:
        return await hermes.records.keep(who, "decision", {"agents": agents, "asked": task})
    found = await hermes.records.one("decision", str(earlier))
    if found.account != who.account:
        raise RecordNotFound
    if body_of(found).get("agents") != agents:
        raise invalid("/agent_ids", "Expected the agents of that decision")
    return found


async def vote_for(hermes: HermesService, who: Principal, question: RecordRow, votes: Mapping[str, Any]) -> None:
    """Cast votes of agents of the caller's; where one is somebody else's, none is cast. Raises `Forbidden`."""
    asked = body_of(question).get("agents", ())
    for agent, vote in votes.items():
        if not isinstance(vote, bool):
            raise invalid("/task_data/votes", "Expected true or false for each agent")
        if agent not in asked:
            raise RecordNotFound("This agent is not asked.")
        if (await hermes.agents.row(agent)).account != who.account:
            raise Forbidden("An agent's vote is cast by its owner.")
    for agent, vote in votes.items():
        await hermes.records.keep(who, "vote", {"agree": vote}, parent=question.id, name=agent)


async def votes_on(hermes: HermesService, question: RecordRow) -> dict[str, bool]:
    """The votes that were cast, by agent."""
    rows = await hermes.records.below("vote", question.id)
    return {row.name: body_of(row)["agree"] is True for row in rows}

"""The face of hermes: all that the other modules may know."""

from typing import Annotated, Protocol

from msgspec import Struct

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.json_schema import one_of

AGENT_STATES = ("active", "paused", "retired")


class AgentFacts(Struct, frozen=True, kw_only=True):
    """What other modules may know of an agent."""

    id: str
    account: str
    """Whose it is."""
    name: str
    skills: tuple[str, ...]
    """The ids of its skills."""
    state: Annotated[str, one_of(AGENT_STATES)]
    is_online: bool


class AgentNotFound(NotFound):
    """There is no such agent."""

    code = "agent_not_found"


class HermesApi(Protocol):
    """What hermes does for other modules."""

    async def agent(self, agent: str) -> AgentFacts:
        """One agent, whoever registered it. Raises `AgentNotFound`."""
        ...

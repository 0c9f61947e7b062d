"""The HTTP of messages that were given up."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.modules.hermes.models.tables import MessageRow
from aitbc.modules.hermes.service.messages import AgentMessageNotFound, AgentMessages

Who = NamedDependency[Principal]


class AgentMessage(Struct, frozen=True, kw_only=True):
    """A message to a place outside."""

    id: str
    """Its id, by which its receiver knows it again. For example `msg_01k0000000000000000000000a`."""
    run: str
    """The run that it is about. For example `run_01k0000000000000000000000a`."""
    state: Annotated[str, one_of(("queued", "sent", "dead"))]
    """`queued`, `sent` or `dead`: given up. For example `dead`."""
    attempts: int
    """How often it was sent. For example `10`."""
    error: str
    """What was wrong the last time. For example `it answers 410`."""
    created_at: datetime
    """When it was written."""


class AgentMessageController(Controller):
    """Messages that were given up."""

    path = "/messages"
    tags = ("agents",)

    @get(
        "/",
        operation_id="list_dead_agent_messages",
        summary="List messages that were given up",
        opt={"permission": "agents:read", "errors": (InvalidCursor,)},
    )
    async def dead(
        self,
        agent_messages: NamedDependency[AgentMessages],
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[AgentMessage]:
        """List the messages of the caller's runs that could not be delivered, with the reason, from the newest on."""
        before = None if cursor is None else decode_cursor("agent_messages", cursor, int)[0]
        rows = await agent_messages.dead(who, limit + 1, before)
        page = Page.of("agent_messages", rows, limit, lambda one: (one.sequence,))
        return Page(data=list(map(_view, page.data)), next_cursor=page.next_cursor, has_more=page.has_more)

    @post(
        "/{agent_message:str}/retry",
        status_code=200,
        operation_id="retry_agent_message",
        summary="Send a message again",
        opt={"permission": "agents:write", "idempotency": "natural", "errors": (AgentMessageNotFound,)},
    )
    async def retry(
        self, agent_messages: NamedDependency[AgentMessages], who: Who, agent_message: FromPath[str]
    ) -> AgentMessage:
        """Queue a message once more that was given up. Messages of calls cannot: their runs have failed."""
        return _view(await agent_messages.send_again(who, agent_message))


def _view(row: MessageRow) -> AgentMessage:
    return AgentMessage(
        id=row.id, run=row.run, state=row.state, attempts=row.attempts, error=row.error, created_at=row.created_at
    )

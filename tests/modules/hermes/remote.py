"""An agent of the official A2A SDK, as somebody would run it elsewhere."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from a2a.helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes.agent_card_routes import create_agent_card_routes
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette

from tests.listening import listening

Work = Callable[[str, dict[str, Any]], Awaitable[str]]


class RemoteAgent(AgentExecutor):
    """Does what a test says, and remembers what it was asked."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.asked: list[tuple[str, str]] = []
        """The ids of messages, with their texts."""
        self.canceled: list[str] = []
        self.url = ""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Work on a message."""
        assert context.message is not None
        self.asked.append((context.message.message_id, context.get_user_input()))
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        try:
            answer = await self.work(context.get_user_input(), MessageToDict(context.message.metadata))
        except ValueError:
            await updater.failed()
            return
        await updater.add_artifact([pb.Part(text=answer)], name="answer")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Stop."""
        assert context.task_id is not None and context.context_id is not None
        self.canceled.append(context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


@asynccontextmanager
async def a_remote_agent(work: Work) -> AsyncIterator[RemoteAgent]:
    """The agent, served until the block ends."""
    agent = RemoteAgent(work)
    card = pb.AgentCard(
        name="remote",
        description="somewhere else",
        version="1",
        capabilities=pb.AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[pb.AgentSkill(id="work", name="work", description="works", tags=["work"])],
    )
    app = Starlette()
    async with listening(app) as port:
        agent.url = f"http://127.0.0.1:{port}/"
        card.supported_interfaces.append(
            pb.AgentInterface(url=f"{agent.url}rpc", protocol_binding="JSONRPC", protocol_version="1.0")
        )
        handler = DefaultRequestHandler(agent_executor=agent, task_store=InMemoryTaskStore(), agent_card=card)
        app.router.routes += [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, rpc_url="/rpc")]
        yield agent

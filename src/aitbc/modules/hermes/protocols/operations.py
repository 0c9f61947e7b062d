"""The operations of A2A over the service, the same for both bindings."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.pagination import InvalidCursor, decode_cursor, encode_cursor
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.a2a import STATES, artifact_update, artifacts_of, card_of, status_update, task_of
from aitbc.modules.hermes.models.life import OVER, RunState
from aitbc.modules.hermes.models.shapes import AgentRun
from aitbc.modules.hermes.protocols.errors import OperationNotSupported
from aitbc.modules.hermes.protocols.requests import (
    ManyPushes,
    ManyTasks,
    OnePush,
    OneTask,
    PushWish,
    SendMessage,
)
from aitbc.modules.hermes.service import HermesService
from aitbc.modules.hermes.service.commands import AgentRunNotFound, CallSkill, RunFilter
from aitbc.modules.hermes.service.driver import storable
from aitbc.modules.hermes.service.push_configs import PushConfig

WAIT_SECONDS = 3.5
"""How long a message waits for its end: the Python client gives up after five seconds without a byte."""
LOOK_SECONDS = 0.2
SILENCE_SECONDS = 3.0
"""After so long a silence a stream says that it is still there."""
LIST = "a2a_tasks"
YES = frozenset({"approve", "approved", "yes", "ok"})
NO = frozenset({"reject", "rejected", "refuse", "no"})
RESTING = frozenset({*OVER, RunState.INPUT_REQUIRED})


class Caller(Struct, frozen=True):
    """Who calls which agent."""

    who: Principal
    agent: str


class Operations:
    """What can be asked of an agent."""

    def __init__(self, hermes: HermesService, caller: Caller, base_url: str) -> None:
        self._hermes = hermes
        self._who = caller.who
        self._agent = caller.agent
        self._base_url = base_url

    async def begin(self, wish: SendMessage) -> AgentRun:
        """Begin a task, or go on with the one that the message names. The same message again finds the same task."""
        push = wish.configuration.task_push_notification_config
        if push is not None:
            self._hermes.push_configs.check(push.config(""))
        if wish.message.task_id:
            run = await self._go_on(wish)
        else:
            run = await self._hermes.agent_runs.begin(self._who, self._call(wish), IdempotencyKey.NONE)
        if push is not None:
            await self._hermes.push_configs.put(run.id, push.config(run.id))
        return run

    def _call(self, wish: SendMessage) -> CallSkill:
        return CallSkill(
            agent=self._agent,
            skill=wish.said("skill"),
            text=wish.message.text,
            data=wish.message.data,
            budget_units=wish.budget_units,
            context=wish.message.context_id or None,
            message=wish.message.message_id,
        )

    async def _go_on(self, wish: SendMessage) -> AgentRun:
        run = await self.find(wish.message.task_id or "")
        step = next((one for one in run.steps if one.state == "waiting"), None)
        if step is None:
            raise OperationNotSupported
        return await self._hermes.agent_runs.answer(
            self._who, run.id, step=step.number, approve=_is_yes(wish), note=storable(wish.message.text[:2000]) or ""
        )

    async def send(self, wish: SendMessage) -> dict[str, Any]:
        """Begin a task and wait for a moment whether it ends, unless the client does not want that."""
        run = await self.begin(wish)
        if not wish.configuration.return_immediately:
            run = await self._rest(run)
        return {"task": task_of(run, history=wish.configuration.history_length)}

    async def _rest(self, run: AgentRun) -> AgentRun:
        until = asyncio.get_running_loop().time() + WAIT_SECONDS
        while run.state not in RESTING and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(LOOK_SECONDS)
            run = await self._hermes.agent_runs.get(self._who, run.id)
        return run

    async def find(self, task: str) -> AgentRun:
        """A task of the caller's at this agent. Raises `AgentRunNotFound`."""
        run = await self._hermes.agent_runs.paid(self._who, task)
        if run.agent != self._agent:
            raise AgentRunNotFound
        return run

    async def get(self, wish: OneTask) -> dict[str, Any]:
        """A task as it is."""
        return task_of(await self.find(wish.id), history=wish.history_length)

    async def page(self, wish: ManyTasks) -> dict[str, Any]:
        """The caller's tasks at this agent, from the newest on."""
        states = None
        if wish.status and wish.status != "TASK_STATE_UNSPECIFIED":
            states = [state for state, name in STATES.items() if name == wish.status]
        after = None
        if wish.page_token:
            (after,) = decode_cursor(LIST, wish.page_token, str)
            if not ids.is_id("run", after):
                raise InvalidCursor
        wanted = RunFilter(
            states=states,
            agent=self._agent,
            context=wish.context_id or None,
            after=after,
            limit=wish.page_size + 1,
        )
        found = await self._hermes.agent_runs.page(self._who, wanted)
        kept, count = found[: wish.page_size], await self._hermes.agent_runs.count(self._who, wanted)
        return {
            "tasks": [task_of(run, history=wish.history_length, artifacts=wish.include_artifacts) for run in kept],
            "nextPageToken": encode_cursor(LIST, kept[-1].id) if len(found) > len(kept) else "",
            "pageSize": wish.page_size,
            "totalSize": count,
        }

    async def cancel(self, wish: OneTask) -> dict[str, Any]:
        """End a task. Raises `RunOver` for one that has ended."""
        await self.find(wish.id)
        return task_of(await self._hermes.agent_runs.cancel(self._who, wish.id))

    async def put_push(self, wish: PushWish) -> dict[str, Any]:
        """Set where to push."""
        run = await self.find(wish.task_id)
        return _push(run.id, await self._hermes.push_configs.put(run.id, wish.config(run.id)))

    async def get_push(self, wish: OnePush) -> dict[str, Any]:
        """One push configuration."""
        run = await self.find(wish.task_id)
        return _push(run.id, await self._hermes.push_configs.one(run.id, wish.id))

    async def pushes(self, wish: ManyPushes) -> dict[str, Any]:
        """All of a task's."""
        run = await self.find(wish.task_id)
        found = await self._hermes.push_configs.all(run.id)
        return {"configs": [_push(run.id, one) for one in found], "nextPageToken": ""}

    async def remove_push(self, wish: OnePush) -> dict[str, Any]:
        """Push there no more."""
        run = await self.find(wish.task_id)
        await self._hermes.push_configs.remove(run.id, wish.id)
        return {}

    async def card(self) -> dict[str, Any]:
        """The card of the agent. Raises `AgentNotFound` for one that was retired."""
        agent = await self._hermes.agents.find(self._agent)
        if agent.state == "retired":
            raise AgentNotFound
        return card_of(agent, self._base_url, self._hermes.node_key)

    async def follow(self, run: AgentRun) -> AsyncIterator[dict[str, Any] | None]:
        """A task, then what becomes of it until it rests; none now and then, where nothing happened."""
        yield {"task": task_of(run)}
        told, silent = {one["artifactId"] for one in artifacts_of(run)}, 0.0
        while run.state not in RESTING and not self._hermes.draining.is_set():
            await asyncio.sleep(LOOK_SECONDS)
            before, run = run, await self._hermes.agent_runs.get(self._who, run.id)
            fresh = [one for one in artifacts_of(run) if one["artifactId"] not in told]
            told |= {one["artifactId"] for one in fresh}
            for artifact in fresh:
                yield artifact_update(run, artifact)
            if run.state != before.state:
                yield status_update(run)
            silent = 0.0 if fresh or run.state != before.state else silent + LOOK_SECONDS
            if silent >= SILENCE_SECONDS:
                silent = 0.0
                yield None


def _is_yes(wish: SendMessage) -> bool:
    match wish.message.data:
        case {"approve": bool(approve)}:
            return approve
    word = wish.message.text.strip().lower().rstrip(".!")
    if word in YES or word in NO:
        return word in YES
    message = 'Expected the word "approve" or "reject", or data with the member approve'
    raise Invalid(fields=(FieldError("/message/parts", message),))


def _push(task: str, config: PushConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"taskId": task, "id": config.id, "url": config.url, "token": config.token}
    if config.scheme:
        found["authentication"] = {"scheme": config.scheme, "credentials": config.credentials}
    return found

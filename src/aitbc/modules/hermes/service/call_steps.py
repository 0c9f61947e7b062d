"""Steps that an agent does at its own endpoint: one message, and its task looked at until it ends."""

from typing import Any

from msgspec import Struct

from aitbc.kernel.platform import Unreachable
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.hermes.models.life import left_units
from aitbc.modules.hermes.models.tables import RunRow, StepRow
from aitbc.modules.hermes.service.agents import Agents
from aitbc.modules.hermes.service.calls import Calls
from aitbc.modules.hermes.service.endpoints import HEADERS, Endpoints, read_object, request_body, result_of
from aitbc.modules.hermes.service.messages import AgentMessages
from aitbc.modules.hermes.service.outcomes import Broken, Done, Going, Halted, Outcome, pause
from aitbc.modules.hermes.service.views import asked_of, encoded

LOOK_SECONDS = 1.0
DELIVERY_SECONDS = 30.0
FAILURES = ("TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED")
QUESTIONS = ("TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED")
OUTPUT_LENGTH_MAX = 1024 * 1024


class Told(Struct, frozen=True, kw_only=True):
    """What an agent's answer says of a task."""

    task: str | None = None
    outcome: Outcome


class CallSteps:
    """Sends a message to the agent's endpoint, and looks what becomes of its task."""

    def __init__(self, agents: Agents, calls: Calls, messages: AgentMessages, endpoints: Endpoints) -> None:
        self._agents = agents
        self._calls = calls
        self._messages = messages
        self._endpoints = endpoints

    async def do(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> Outcome:
        """Queue the message, once; wait until it is delivered; then look at the task."""
        if step.reference is None:
            return await self._send(run, step)
        if step.remote is not None:
            return await self._look(run, step)
        message = await self._messages.read(step.reference)
        if message is None or message.state == "dead":
            return Broken(reason="undeliverable")
        if message.answer is None:
            return Going(seconds=pause(step))
        try:
            told = told_by(result_of(read_object(message.answer)))
        except Unreachable:
            return Broken(reason="call_refused")
        if isinstance(told.outcome, Going):
            return Going(seconds=LOOK_SECONDS, remote=told.task)
        return told.outcome

    async def _send(self, run: RunRow, step: StepRow) -> Outcome:
        agent = await self._agents.row(run.agent)
        if agent.interface is None:
            return Going(seconds=DELIVERY_SECONDS)  # its card was not read yet; the deadline ends this
        identity = f"{run.id}:{step.number}"
        body = request_body("SendMessage", self._request(run, identity), identity)
        await self._messages.queue(run, identity, agent.interface, body, HEADERS)
        return Going(reference=identity, seconds=DELIVERY_SECONDS)

    def _request(self, run: RunRow, identity: str) -> dict[str, Any]:
        asked = asked_of(run)
        parts: list[dict[str, Any]] = [{"text": asked.text}] if asked.text or asked.data is None else []
        if asked.data is not None:
            parts.append({"data": asked.data})
        facts = {
            "skill": run.skill,
            "run": run.id,
            "ticket": self._calls.ticket_of(run.id),
            "budget": money.render(left_units(run)),
            "deadline": run.deadline_at.isoformat(),
            "depth": str(run.depth),
        }
        message = {"messageId": identity, "role": "ROLE_USER", "parts": parts, "metadata": facts}
        return {"message": message, "configuration": {"returnImmediately": True}}

    async def _look(self, run: RunRow, step: StepRow) -> Outcome:
        agent = await self._agents.row(run.agent)
        assert agent.interface is not None and step.remote is not None
        try:
            task = await self._endpoints.ask(agent.interface, "GetTask", {"id": step.remote})
        except (Unreachable, AppError):
            return Going(seconds=pause(step))
        outcome = told_by({"task": task}).outcome
        return Going(seconds=pause(step)) if isinstance(outcome, Going) else outcome

    async def stop(self, run: RunRow, step: StepRow) -> Halted | Going:
        """Send the message no more, and ask the agent once to stop; it costs nothing either way."""
        if step.reference is not None:
            await self._messages.withdraw(step.reference)
        if step.remote is not None:
            agent = await self._agents.row(run.agent)
            try:
                await self._endpoints.ask(agent.interface or "", "CancelTask", {"id": step.remote})
            except (Unreachable, AppError):
                return Halted(spent_units=0)
        return Halted(spent_units=0)


def told_by(result: dict[str, Any]) -> Told:
    """What the result of a message or the state of a task means for a step."""
    match result:
        case {"message": {"parts": list(parts)}}:
            return Told(outcome=_done(_text_of(parts)))
        case {"task": {"id": str(task), "status": {"state": str(state)}} as found}:
            if state == "TASK_STATE_COMPLETED":
                return Told(task=task, outcome=_done(_answer_of(found)))
            if state in FAILURES:
                return Told(task=task, outcome=Broken(reason="call_failed"))
            if state in QUESTIONS:
                return Told(task=task, outcome=Broken(reason="call_needs_input"))
            return Told(task=task, outcome=Going())
    return Told(outcome=Broken(reason="call_unreadable"))


def _done(text: str) -> Outcome:
    if len(text) > OUTPUT_LENGTH_MAX:
        return Broken(reason="answer_too_large")
    return Done(spent_units=0, output=text)


def _answer_of(task: dict[str, Any]) -> str:
    artifacts = [one for one in _list(task.get("artifacts")) if isinstance(one, dict)]
    parts = [part for one in artifacts for part in _list(one.get("parts"))]
    if not parts:
        message = task["status"].get("message")
        parts = _list(message.get("parts")) if isinstance(message, dict) else []
    return _text_of(parts)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text_of(parts: list[Any]) -> str:
    said = []
    for part in parts:
        match part:
            case {"text": str(text)} if text:
                said.append(text)
            case {"data": data} if data is not None:
                said.append(encoded(data))
    return "\n".join(said)

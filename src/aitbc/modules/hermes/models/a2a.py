"""Runs and agents in the words of A2A 1.0: pure functions to its JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aitbc.kernel.crypto.signing import Key, canonical, encode_bytes
from aitbc.kernel.primitives import money
from aitbc.modules.hermes.models.plans import most_units
from aitbc.modules.hermes.models.shapes import Agent, AgentRun, AgentSkill

VERSION = "1.0"
PRICES = "https://aitbc.org/a2a/extensions/prices/v1"
"""The extension of a card that says what its skills cost."""
STATES = {
    "submitted": "TASK_STATE_SUBMITTED",
    "working": "TASK_STATE_WORKING",
    "input_required": "TASK_STATE_INPUT_REQUIRED",
    "completed": "TASK_STATE_COMPLETED",
    "failed": "TASK_STATE_FAILED",
    "canceled": "TASK_STATE_CANCELED",
    "rejected": "TASK_STATE_REJECTED",
}


def stamp(at: datetime) -> str:
    """A time as protobuf writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def status_of(run: AgentRun) -> dict[str, Any]:
    """The status of a task, with the question that it waits for or the reason of its end."""
    status: dict[str, Any] = {"state": STATES[run.state], "timestamp": stamp(run.ended_at or _newest(run))}
    said = next((step.question for step in run.steps if step.state == "waiting"), None)
    if run.state in ("failed", "canceled", "rejected"):
        said = run.reason
    if said is not None:
        status["message"] = _message(run, said)
    return status


def _newest(run: AgentRun) -> datetime:
    times = [at for step in run.steps for at in (step.started_at, step.ended_at) if at is not None]
    return max(times, default=run.created_at)


def _message(run: AgentRun, text: str) -> dict[str, Any]:
    return {
        "messageId": f"{run.id}:{run.state}",
        "taskId": run.id,
        "contextId": run.context,
        "role": "ROLE_AGENT",
        "parts": [{"text": text}],
    }


def artifacts_of(run: AgentRun) -> list[dict[str, Any]]:
    """The answer of a task, and the answers of the steps that are done."""
    found = [
        _artifact(f"step-{step.number}", step.name, step.output)
        for step in run.steps
        if step.output is not None and step.does != "approve" and len(run.steps) > 1
    ]
    if run.output is not None:
        found.append(_artifact("answer", "answer", run.output))
    return found


def _artifact(identity: str, name: str, text: str) -> dict[str, Any]:
    return {"artifactId": identity, "name": name, "parts": [{"text": text, "mediaType": "text/plain"}]}


def task_of(run: AgentRun, *, history: int | None = None, artifacts: bool = True) -> dict[str, Any]:
    """A run as a task; `history` says how many of its messages are wanted, all of them without."""
    asked = {
        "messageId": f"{run.id}:asked",
        "taskId": run.id,
        "contextId": run.context,
        "role": "ROLE_USER",
        "parts": [{"text": run.text}],
    }
    task: dict[str, Any] = {"id": run.id, "contextId": run.context, "status": status_of(run), "metadata": facts_of(run)}
    if artifacts:
        task["artifacts"] = artifacts_of(run)
    if history != 0:
        task["history"] = [asked]
    return task


def facts_of(run: AgentRun) -> dict[str, Any]:
    """What A2A has no words for: what a task costs, and why it ended."""
    return {
        "agent": run.agent,
        "skill": run.skill,
        "price": run.price,
        "budget": run.budget,
        "spent": run.spent,
        "reason": run.reason,
    }


def status_update(run: AgentRun) -> dict[str, Any]:
    """The event that a task came to another state."""
    return {
        "statusUpdate": {
            "taskId": run.id,
            "contextId": run.context,
            "status": status_of(run),
            "metadata": facts_of(run),
        }
    }


def artifact_update(run: AgentRun, artifact: dict[str, Any]) -> dict[str, Any]:
    """The event that a task has a new artifact."""
    return {
        "artifactUpdate": {"taskId": run.id, "contextId": run.context, "artifact": artifact, "lastChunk": True},
    }


def card_of(agent: Agent, base_url: str, key: Key) -> dict[str, Any]:
    """The signed card of an agent that answers at `base_url`, which ends with a slash."""
    card = {
        "name": agent.name,
        "description": agent.description or agent.name,
        "version": str(agent.version),
        "supportedInterfaces": [
            {"url": base_url, "protocolBinding": "JSONRPC", "protocolVersion": VERSION},
            {"url": base_url, "protocolBinding": "HTTP+JSON", "protocolVersion": VERSION},
        ],
        "provider": {"organization": agent.account, "url": base_url},
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "extendedAgentCard": True,
            "extensions": [
                {"uri": PRICES, "description": "What skills cost, in AITBC.", "params": _prices(agent.skills)}
            ],
        },
        "securitySchemes": {"bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}},
        "securityRequirements": [{"schemes": {"bearer": {}}}],
        "defaultInputModes": sorted({mode for skill in agent.skills for mode in skill.input_modes}),
        "defaultOutputModes": sorted({mode for skill in agent.skills for mode in skill.output_modes}),
        "skills": [_skill(skill) for skill in agent.skills],
    }
    return card | {"signatures": [signature_of(card, key)]}


def _prices(skills: Sequence[AgentSkill]) -> dict[str, Any]:
    return {skill.id: {"price": skill.price, "most": money.render(most_units(skill))} for skill in skills}


def _skill(skill: AgentSkill) -> dict[str, Any]:
    return {
        "id": skill.id,
        "name": skill.name,
        "description": skill.description or skill.name,
        "tags": list(skill.tags) or [skill.id],
        "examples": list(skill.examples),
        "inputModes": list(skill.input_modes),
        "outputModes": list(skill.output_modes),
    }


def signature_of(card: dict[str, Any], key: Key) -> dict[str, str]:
    """The signature over a card as both SDKs check it: canonical JSON, without what is empty at any depth."""
    header = encode_bytes(canonical({"alg": "EdDSA", "kid": key.public, "typ": "JOSE"}))
    payload = encode_bytes(canonical(without_empty(card)))
    return {"protected": header, "signature": key.sign(f"{header}.{payload}".encode())}


def without_empty(value: Any) -> Any:
    """A JSON value without empty texts, lists and objects, at every depth."""
    match value:
        case dict():
            kept = {name: without_empty(item) for name, item in value.items()}
            return {name: item for name, item in kept.items() if item not in (None, "", [], {})}
        case list():
            return [item for item in map(without_empty, value) if item not in (None, "", [], {})]
    return value

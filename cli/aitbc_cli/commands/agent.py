"""Agents: register them, find one, call its skills, and see what becomes of that."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import FAILED, NOT_FOUND, REFUSED, TIMED_OUT, usage
from aitbc_cli.files import read
from aitbc_cli.id_completion import AGENT_RUNS, AGENTS
from aitbc_cli.output import columns
from aitbc_cli.terminal import say
from aitbc_cli.times import seconds_of
from aitbc_cli.written import given_json

PATH = "/api/v1/hermes/agents"
RUNS = "/api/v1/hermes/runs"
BRIEF = columns("id", "name", "state", "is_online", "endpoint")
FULL = (
    *columns("id", "name", "description", "state", "is_online", "seen_at", "problem", "endpoint", "skills", "limits"),
    *columns("reputation", "version", "account", "created_at", "changed_at"),
)
CHOICE = columns("agent", "name", "skill", "price", "most", "score", "terms")
RUN_BRIEF = columns("id", "state", "reason", "agent", "skill", "spent", "budget", "created_at")
RUN_FULL = (
    *columns("id", "state", "reason", "agent", "skill", "text", "output", "price", "budget", "spent", "reserved"),
    *columns("steps", "parent", "depth", "context", "transaction", "created_at", "deadline_at", "ended_at"),
)
RECEIPT = columns("statement", "public_key", "signature")
OVER = {"completed", "failed", "canceled", "rejected"}
LOOK_SECONDS = 1.0
FILE_BYTES_MAX = 1 << 20
Which = Annotated[str, typer.Argument(metavar="AGENT", help="Its id, agt_…", autocompletion=AGENTS)]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Its id, run_…", autocompletion=AGENT_RUNS)]
app = noun("agent", "Agents: register yours, find one, call its skills, approve what it asks.")


def _declared(file: Path) -> dict[str, Any]:
    """The agent that a file declares. Raises a fault of usage for what is no JSON object."""
    try:
        found = json.loads(read(str(file), bytes_max=FILE_BYTES_MAX))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise usage(f"{file} is no JSON object", hint="docs/hermes.md has an example")
    return found


@command(app, "register", examples=["aitbc agent register agent.json"], changes=True)
def register(
    call: Call,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The agent as JSON: name, skills, endpoint, limits.")],
) -> None:
    """Register an agent of yours; docs/hermes.md has an example of the file."""
    call.out.one(call.change("POST", PATH, _declared(file)), FULL)


@command(app, "list", examples=["aitbc agent list", "aitbc agent list --own"], lists=True)
def list_agents(
    call: Call,
    own: Annotated[bool, typer.Option("--own", help="Only yours, in whichever state.")] = False,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those with a skill of this id or tag.")] = None,
) -> None:
    """List the agents that can be called, from the newest on."""
    call.list(PATH, BRIEF, own=own or None, tag=tag)


@command(app, "show", examples=["aitbc agent show agt_01…"], ends=[NOT_FOUND])
def show(call: Call, agent: Which) -> None:
    """Show an agent with its skills, their prices, and what is known of it."""
    call.out.one(call.api.get(f"{PATH}/{part(agent)}"), FULL)


@command(
    app, "find", examples=["aitbc agent find summarize", "aitbc agent find --budget 1 --prefer cost"], ends=[REFUSED]
)
def find(
    call: Call,
    skill: Annotated[str | None, typer.Argument(help="The id or a tag of the skill.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="The most that a call may cost, in AITBC.")] = None,
    prefer: Annotated[str, typer.Option("--prefer", help="performance or cost.")] = "performance",
) -> None:
    """Find the agents that fit best, with what their scores are made of."""
    body = {"skill": skill, "budget": budget, "prefer": prefer}
    found = call.api.post(
        "/api/v1/hermes/routes", {name: value for name, value in body.items() if value is not None}, natural=True
    )
    call.out.rows(found["data"], CHOICE, name="agent")


@command(app, "state", examples=["aitbc agent state agt_01… paused"], changes=True, ends=[NOT_FOUND])
def state(call: Call, agent: Which, to: Annotated[str, typer.Argument(help="active, paused or retired.")]) -> None:
    """Have an agent of yours take calls, or none for now, or none any more."""
    path = f"{PATH}/{part(agent)}"
    body = {"version": call.api.get(path)["version"], "state": to}
    call.out.one(call.change("POST", f"{path}/change", body), BRIEF)


@command(
    app,
    "run",
    examples=[
        'aitbc agent run agt_01… "Summarize: …"',
        'aitbc agent run agt_01… --skill edit --budget 1 "…" --dry-run',
    ],
    changes=True,
    ends=[NOT_FOUND],
)
def run(
    call: Call,
    agent: Which,
    text: Annotated[str, typer.Argument(help="What to ask.")],
    skill: Annotated[str | None, typer.Option("--skill", help="The skill; the agent's first when left out.")] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="The most that it may cost with everything below it, in AITBC.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="Data beside the text.")] = None,
    within: Annotated[str | None, typer.Option("--within", help="End it after this time, for instance 10m.")] = None,
    wait: Annotated[str, typer.Option("--wait", help="How long to wait for its end; 0s for not at all.")] = "60s",
) -> int:
    """Call a skill of an agent, and wait for its answer. The run goes on when you do not wait any longer."""
    body: dict[str, Any] = {"agent": agent, "text": text, "skill": skill, "budget": budget}
    if data is not None:
        body["data"] = given_json("--data", data, example='{"sentences": 3}')
    if within is not None:
        body["wall_seconds"] = int(seconds_of(within))
    begun = call.change("POST", RUNS, {name: value for name, value in body.items() if value is not None})
    return _wait(call, begun, seconds_of(wait))


def _wait(call: Call, found: dict[str, Any], seconds: float) -> int:
    """Wait until a run is over or asks a person, and print it; the exit code says which."""
    import time

    until = time.monotonic() + seconds
    while found["state"] not in OVER | {"input_required"} and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        found = call.api.get(f"{RUNS}/{part(found['id'])}")
    call.out.one(found, RUN_FULL)
    if found["state"] == "input_required":
        step = next(step for step in found["steps"] if step["state"] == "waiting")
        say(f"it asks: {step['question']}  Answer with: aitbc agent approve {found['id']}")
        return 0
    if found["state"] not in OVER:
        say(f"it goes on; see it with: aitbc agent status {found['id']}")
        return TIMED_OUT if seconds else 0
    return 0 if found["state"] == "completed" else FAILED


@command(app, "runs", examples=["aitbc agent runs", "aitbc agent runs --state working"], lists=True)
def runs(
    call: Call,
    in_state: Annotated[str | None, typer.Option("--state", help="Only in this state.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only of this agent.", autocompletion=AGENTS)] = None,
) -> None:
    """List the runs that you pay, from the newest on."""
    call.list(RUNS, RUN_BRIEF, state=in_state, agent=agent)


@command(app, "status", examples=["aitbc agent status run_01…"], ends=[NOT_FOUND])
def status(call: Call, which: Run) -> None:
    """Show a run with its steps and what it has cost so far."""
    call.out.one(call.api.get(f"{RUNS}/{part(which)}"), RUN_FULL)


def _answer(call: Call, which: str, note: str, *, approve: bool) -> None:
    path = f"{RUNS}/{part(which)}"
    waiting = [step["number"] for step in call.api.get(path)["steps"] if step["state"] == "waiting"]
    if not waiting:
        raise usage("this run asks nothing now", hint=f"see it with: aitbc agent status {which}")
    body = {"step": waiting[0], "approve": approve, "note": note}
    call.out.one(call.change("POST", f"{path}/answer", body, natural=True), RUN_FULL)


@command(app, "approve", examples=["aitbc agent approve run_01…"], changes=True, ends=[NOT_FOUND])
def approve(
    call: Call, which: Run, note: Annotated[str, typer.Option("--note", help="What else there is to say.")] = ""
) -> None:
    """Say yes to what a run asks."""
    _answer(call, which, note, approve=True)


@command(app, "reject", examples=["aitbc agent reject run_01…"], changes=True, ends=[NOT_FOUND])
def reject(call: Call, which: Run) -> None:
    """Say no to what a run asks: it ends, and its price returns."""
    _answer(call, which, "", approve=False)


@command(app, "cancel", examples=["aitbc agent cancel run_01…"], changes=True, ends=[NOT_FOUND])
def cancel(call: Call, which: Run) -> None:
    """End a run and everything below it."""
    path = f"{RUNS}/{part(which)}"
    call.out.one(call.change("POST", f"{path}/cancel", natural=True, look=path), RUN_BRIEF)


@command(app, "receipt", examples=["aitbc agent receipt run_01…"], ends=[NOT_FOUND])
def receipt(call: Call, which: Run) -> None:
    """Show the signed receipt of a run that has ended."""
    call.out.one(call.api.get(f"{RUNS}/{part(which)}/receipt"), RECEIPT)

"""Edges: miners that serve near those who ask, what is deployed to them, and what they have signed."""

import json
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, REFUSED, usage
from aitbc_cli.id_completion import AGENTS, DEPLOYMENTS, EDGES, MINERS
from aitbc_cli.output import columns

PATH = "/api/v1/hermes/edges"
DEPLOYED = "/api/v1/hermes/deployments"
EDGE = columns("miner", "location", "presence", "address", "reported_at", "vouched_at", "created_at")
BRIEF = columns("id", "name", "state", "problem", "version", "target", "good", "served", "created_at")
FULL = (
    *columns("id", "name", "state", "problem", "version", "target", "good", "replicas", "locations", "steps", "plan"),
    *columns("coordination", "served", "broken", "served_cut_off", "account", "created_at", "changed_at"),
)
RECEIPT = columns("edge", "sequence", "valid", "cut_off", "version", "problem", "milliseconds", "ended_at")
Edge = Annotated[str, typer.Argument(metavar="MINER", help="Its id, mnr_…", autocompletion=EDGES)]
Deployment = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its id, dep_…", autocompletion=DEPLOYMENTS)]
Kind = Annotated[str, typer.Option("--kind", help="The kind of work of the model: chat or embed.")]
Model = Annotated[str | None, typer.Option("--model", help="A model that the edges have.")]
Agent = Annotated[
    str | None, typer.Option("--agent", metavar="AGENT", help="An agent of yours, agt_…", autocompletion=AGENTS)
]
Skill = Annotated[str | None, typer.Option("--skill", help="Its skill; the first when left out.")]
Input = Annotated[
    str | None, typer.Option("--input", metavar="JSON", help="The input beside the model, with {{text}} and {{data}}.")
]
Memory = Annotated[int | None, typer.Option("--memory-mib", min=1, help="Only edges with so much memory.")]
Disk = Annotated[int | None, typer.Option("--disk-mib", min=1, help="Only edges with so much free disk.")]
Replicas = Annotated[int, typer.Option("--replicas", min=1, max=1000, help="How many edges of each location.")]
app = noun("edge", "Edges: what your miners serve near those who ask, also while they are cut off.")


@command(app, "add", examples=["aitbc edge add mnr_01… eu-central"], changes=True, ends=[NOT_FOUND])
def add(
    call: Call,
    miner: Annotated[str, typer.Argument(metavar="MINER", help="Its id, mnr_…", autocompletion=MINERS)],
    location: Annotated[str, typer.Argument(help="Where it stands, a word of yours.")],
) -> None:
    """Make a miner of yours an edge; it serves once it runs with --edge-port."""
    call.out.one(call.change("POST", PATH, {"miner": miner, "location": location}), EDGE)


@command(app, "list", examples=["aitbc edge list"], lists=True)
def list_edges(call: Call) -> None:
    """List your edges: which are healthy, cut off or failed."""
    call.list(PATH, EDGE, name="miner")


@command(app, "remove", examples=["aitbc edge remove mnr_01…"], changes=True, ends=[NOT_FOUND])
def remove(call: Call, miner: Edge) -> None:
    """Make an edge a plain miner again."""
    path = f"{PATH}/{part(miner)}"
    call.out.one(call.change("POST", f"{path}/remove", natural=True, look=path), EDGE)


def _content(kind: str, model: str | None, agent: str | None, skill: str | None, work: str | None) -> dict[str, Any]:
    """What is to be served. Raises a fault of usage where it is neither a model nor an agent, or both."""
    if agent is not None:
        if model is not None or work is not None:
            raise usage("an agent says itself what is done", hint="leave out --model and --input")
        return {"agent": {"agent": agent} | ({} if skill is None else {"skill": skill})}
    found: dict[str, Any] = {"kind": kind} | ({} if model is None else {"name": model})
    if work is not None:
        try:
            found["input"] = json.loads(work)
        except ValueError:
            raise usage("--input is no JSON", hint="""for instance --input '{"texts": "{{data.texts}}"}'""") from None
    return {"model": found}


def _needs(memory_mib: int | None, disk_mib: int | None) -> dict[str, Any]:
    needs = {"memory_mib": memory_mib, "disk_mib": disk_mib}
    return {"needs": {name: value for name, value in needs.items() if value is not None}}


@command(
    app,
    "deploy",
    examples=[
        "aitbc edge deploy assistant --at eu-central --at us-west --kind chat --model llama-3-8b",
        "aitbc edge deploy editor --at eu-central --agent agt_01… --replicas 3 --canary 20 --dry-run",
    ],
    changes=True,
    ends=[NOT_FOUND],
)
def deploy(
    call: Call,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    at: Annotated[list[str], typer.Option("--at", metavar="LOCATION", help="Where; may be given again.")],
    kind: Kind = "chat",
    model: Model = None,
    agent: Agent = None,
    skill: Skill = None,
    work: Input = None,
    memory_mib: Memory = None,
    disk_mib: Disk = None,
    replicas: Replicas = 1,
    canary: Annotated[int, typer.Option("--canary", min=1, max=100, help="The canary, in percent of the edges.")] = 5,
    gate: Annotated[int, typer.Option("--gate", min=0, max=86_400, help="For how many seconds it must be well.")] = 30,
    failures: Annotated[int, typer.Option("--failures", min=0, help="How many edges may fail.")] = 0,
) -> None:
    """Have your edges serve a model or an agent, in stages; each location has its own status."""
    body = {"name": name, "locations": at, "replicas": replicas, **_content(kind, model, agent, skill, work)}
    plan = {"canary_percent": canary, "gate_seconds": gate, "failures_max": failures}
    call.out.one(call.change("POST", DEPLOYED, body | {"plan": plan} | _needs(memory_mib, disk_mib)), FULL)


@command(app, "deployments", examples=["aitbc edge deployments"], lists=True)
def deployments(call: Call) -> None:
    """List your deployments, from the newest on."""
    call.list(DEPLOYED, BRIEF)


@command(app, "show", examples=["aitbc edge show dep_01…"], ends=[NOT_FOUND])
def show(call: Call, which: Deployment) -> None:
    """Show a deployment with what is so at each location."""
    call.out.one(call.api.get(f"{DEPLOYED}/{part(which)}"), FULL)


@command(
    app,
    "update",
    examples=["aitbc edge update dep_01… --kind chat --model llama-3.2-8b"],
    changes=True,
    ends=[NOT_FOUND, REFUSED],
)
def update(
    call: Call,
    which: Deployment,
    kind: Kind = "chat",
    model: Model = None,
    agent: Agent = None,
    skill: Skill = None,
    work: Input = None,
    memory_mib: Memory = None,
    disk_mib: Disk = None,
) -> None:
    """Roll out another version; one that fails is rolled back by itself."""
    body = _content(kind, model, agent, skill, work) | _needs(memory_mib, disk_mib)
    call.out.one(call.change("POST", f"{DEPLOYED}/{part(which)}/versions", body), FULL)


@command(app, "rollback", examples=["aitbc edge rollback dep_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def rollback(call: Call, which: Deployment) -> None:
    """Give up the version that is on its way."""
    path = f"{DEPLOYED}/{part(which)}"
    call.out.one(call.change("POST", f"{path}/rollback", natural=True, look=path), BRIEF)


@command(app, "scale", examples=["aitbc edge scale dep_01… 3"], changes=True, ends=[NOT_FOUND, REFUSED])
def scale(
    call: Call,
    which: Deployment,
    replicas: Annotated[int, typer.Argument(min=1, max=1000, help="How many edges of each location.")],
) -> None:
    """Say how many edges of each location serve it; edges that came since are considered."""
    path = f"{DEPLOYED}/{part(which)}"
    call.out.one(call.change("POST", f"{path}/scale", {"replicas": replicas}, natural=True, look=path), FULL)


@command(
    app,
    "balance",
    examples=["aitbc edge balance dep_01… active_passive"],
    changes=True,
    ends=[NOT_FOUND, REFUSED],
)
def balance(
    call: Call, which: Deployment, how: Annotated[str, typer.Argument(help="round_robin or active_passive.")]
) -> None:
    """Say how callers are spread over its edges."""
    path = f"{DEPLOYED}/{part(which)}"
    call.out.one(call.change("POST", f"{path}/coordination", {"balancing": how}, natural=True, look=path), FULL)


@command(app, "choose", examples=["aitbc edge choose dep_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def choose(call: Call, which: Deployment) -> None:
    """Show the edge for the next caller: one that serves and is healthy."""
    path = f"{DEPLOYED}/{part(which)}"
    chosen = call.change("POST", f"{path}/choose", natural=True, look=path)
    call.out.one(chosen, columns("edge", "location", "address"), name="edge")


@command(app, "secret", examples=["aitbc edge secret dep_01…"], ends=[NOT_FOUND])
def secret(call: Call, which: Deployment) -> None:
    """Show the secret with which callers ask its edges."""
    call.out.one(call.api.get(f"{DEPLOYED}/{part(which)}/token"), columns("token"), name="token")


@command(app, "receipts", examples=["aitbc edge receipts dep_01…"], lists=True, ends=[NOT_FOUND])
def receipts(call: Call, which: Deployment) -> None:
    """List what its edges have signed; each signature is checked here."""
    rows = map(_read, call.pages(f"{DEPLOYED}/{part(which)}/receipts"))
    call.out.rows(rows, RECEIPT, name="sequence")


def _read(row: dict[str, Any]) -> dict[str, Any]:
    """A receipt with what it says, and whether its edge signed that."""
    from aitbc.kernel.crypto.signing import verify

    said = json.loads(row["statement"])
    return {**said, **row, "valid": verify(row["public_key"], row["statement"].encode(), row["signature"])}


@command(app, "end", examples=["aitbc edge end dep_01…"], changes=True, ends=[NOT_FOUND])
def end(call: Call, which: Deployment) -> None:
    """End a deployment; its edges stop serving it when they hear of it."""
    path = f"{DEPLOYED}/{part(which)}"
    call.out.one(call.change("POST", f"{path}/end", natural=True, look=path), BRIEF)

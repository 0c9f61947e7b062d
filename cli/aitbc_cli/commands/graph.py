"""Graphs of jobs: run, watched, paused, canceled and run again."""

from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import FAILED, NOT_FOUND, REFUSED
from aitbc_cli.id_completion import GRAPHS
from aitbc_cli.long_work import LongWork
from aitbc_cli.output import columns
from aitbc_cli.terminal import say
from aitbc_cli.written import read_written

PATH = "/api/v1/ai/graphs"
BRIEF = (*columns("id", "name", "state", "reason"), *columns("spent", "budget", kind="number"))
LISTED = (*BRIEF, *columns("created_at"))
FULL = (
    *columns("id", "name", "state", "reason", "budget", "reserved", "spent", "schedule", "version"),
    *columns("created_at", "ended_at"),
)
NODES = (
    *columns("name", "index", "state", "reason"),
    *columns("attempt", "spent", kind="number"),
    *columns("job", "message"),
)
EXAMPLE = "docs/graphs.md has an example"
Which = Annotated[str, typer.Argument(metavar="GRAPH", help="Its id, graph_…", autocompletion=GRAPHS)]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Stay until it has ended; Ctrl-C leaves it running.")]
app = noun("graph", "Graphs: jobs that follow from each other, under one budget.")


def _describe(graph: dict[str, Any]) -> str:
    over = sum(node["state"] not in ("pending", "starting", "running") for node in graph["nodes"])
    return f"{over} of {len(graph['nodes'])} nodes have ended"


def _tell_end(graph: dict[str, Any]) -> int:
    if graph["state"] == "succeeded":
        return 0
    say(f"aitbc: {graph['id']} {graph['state']} ({graph['reason']}); what its jobs cost until then is paid")
    say(f"  go on with what did not succeed: aitbc graph rerun {graph['id']}")
    return FAILED


WORK = LongWork(
    noun="graph",
    path=PATH,
    brief=BRIEF,
    full=FULL,
    parts="nodes",
    part_columns=NODES,
    over={"succeeded", "failed", "canceled"},
    describe=_describe,
    tell_end=_tell_end,
)


@command(
    app,
    "run",
    examples=["aitbc graph run report.yaml --wait", "aitbc graph run report.json --budget 0.5 --input topic=tides"],
    changes=True,
)
def run(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The graph as YAML or JSON; - reads JSON.")],
    budget: Annotated[str | None, typer.Option("--budget", metavar="AITBC", help="Another budget.")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=TEXT", help="An input as a text; again for more.")
    ] = None,
    wait: Wait = False,
) -> int:
    """Run a graph of jobs: a node begins when those have ended whose outputs it names."""
    body = read_written(file, hint=EXAMPLE)
    if budget is not None:
        body["budget"] = budget
    given = dict(_named(each) for each in inputs or ())
    if given:
        body["inputs"] = {**body.get("inputs", {}), **given}
    graph = call.change("POST", PATH, body)
    if wait:
        return WORK.wait(call, graph["id"])
    call.out.one(graph, BRIEF)
    return 0


def _named(given: str) -> tuple[str, str]:
    name, found, value = given.partition("=")
    if not found or not name:
        from aitbc_cli.exits import usage

        raise usage(f"--input {given}: it is NAME=TEXT")
    return name, value


@command(app, "list", examples=["aitbc graph list", "aitbc graph list --state running"], lists=True)
def list_graphs(
    call: Call,
    state: Annotated[str | None, typer.Option("--state", help="running, paused, canceling, succeeded, …")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", help="Only those that this schedule began.")] = None,
) -> None:
    """List your graphs from the newest on."""
    call.list(PATH, LISTED, state=state, schedule=schedule)


@command(app, "show", examples=["aitbc graph show graph_01…", "aitbc graph show graph_01… --json"], ends=[NOT_FOUND])
def show(call: Call, graph: Which) -> None:
    """Show a graph with each node: where it is, its job, and what it has cost."""
    WORK.show(call, WORK.get(call, graph))


@command(app, "wait", examples=["aitbc graph wait graph_01… --timeout 10m"], ends=[NOT_FOUND])
def wait_for(call: Call, graph: Which) -> int:
    """Wait until a graph has ended; exit code 0 only if it succeeded, 7 when the time is up."""
    return WORK.wait(call, graph)


@command(app, "pause", examples=["aitbc graph pause graph_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def pause(call: Call, graph: Which) -> None:
    """Begin nothing more of a graph; jobs that are under way go on."""
    WORK.change(call, graph, "pause")


@command(app, "resume", examples=["aitbc graph resume graph_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def resume(call: Call, graph: Which) -> None:
    """Go on with a paused graph."""
    WORK.change(call, graph, "resume")


@command(app, "cancel", examples=["aitbc graph cancel graph_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def cancel(call: Call, graph: Which) -> None:
    """End a graph: its jobs are canceled, and their money goes back."""
    WORK.change(call, graph, "cancel")


@command(
    app,
    "rerun",
    examples=["aitbc graph rerun graph_01…", "aitbc graph rerun graph_01… --node summary --budget 0.8 --wait"],
    changes=True,
    ends=[NOT_FOUND, REFUSED],
)
def rerun(
    call: Call,
    graph: Which,
    nodes: Annotated[list[str] | None, typer.Option("--node", help="From this node on; again for more.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="AITBC", help="A new budget for the whole.")] = None,
    wait: Wait = False,
) -> int:
    """Run a graph that has ended again, from what did not succeed or from some nodes on."""
    body: dict[str, Any] = {"nodes": nodes or []} | ({} if budget is None else {"budget": budget})
    path = WORK.path_of(graph)
    answer = call.change("POST", f"{path}/rerun", body, look=path)
    if wait:
        return WORK.wait(call, graph)
    call.out.one(answer, BRIEF)
    return 0

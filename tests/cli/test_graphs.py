"""Graphs on the command line."""

import json
from pathlib import Path

from aitbc_cli.exits import NOT_FOUND, REFUSED
from tests.cli.installation import CliInstallation


def test_a_graph_is_run_shown_paused_and_canceled(installation: CliInstallation, tmp_path: Path) -> None:
    alice = installation.alice
    file = tmp_path / "graph.yaml"
    file.write_text(
        """
name: Two
budget: "0.2"
nodes:
  - {name: one, kind: embed, input: {texts: ["{{inputs.word}}"]}, max_price: "0.05"}
  - {name: two, kind: embed, input: {texts: ["{{one.digest}}"]}, max_price: "0.05"}
"""
    )
    refused = alice.does("graph", "run", str(file), code=2)
    assert "names no input of the graph" in refused.err
    made = alice.gets("graph", "run", str(file), "--input", "word=tide", "--budget", "0.1")
    assert (made["state"], made["budget"]) == ("running", "0.1")
    graph = made["id"]
    assert [one["id"] for one in alice.gets("graph", "list", "--state", "running")] == [graph]
    assert [one["name"] for one in alice.gets("graph", "show", graph)["nodes"]] == ["one", "two"]
    assert "pending" in alice.does("graph", "show", graph).out
    assert alice.gets("graph", "pause", graph)["state"] == "paused"
    assert alice.gets("graph", "resume", graph)["state"] == "running"
    alice.does("graph", "rerun", graph, code=REFUSED)
    assert alice.gets("graph", "cancel", graph)["state"] in ("canceling", "canceled")
    alice.does("graph", "wait", graph, "--timeout", "60s", code=1)
    assert alice.gets("graph", "show", graph)["reserved"] == "0"
    again = alice.gets("graph", "rerun", graph, "--budget", "0.2")
    assert (again["state"], again["budget"]) == ("running", "0.2")
    alice.gets("graph", "cancel", graph)
    alice.does("graph", "show", "graph_no", code=NOT_FOUND)
    plan = json.loads(alice.does("graph", "run", str(file), "--dry-run", "--json").out)
    assert plan["path"] == "/api/v1/ai/graphs"


def test_a_schedule_is_made_paused_and_removed(installation: CliInstallation, tmp_path: Path) -> None:
    alice = installation.alice
    file = tmp_path / "job.json"
    file.write_text('{"kind": "embed", "input": {"texts": ["at {{inputs.scheduled_at}}"]}, "max_price": "0.05"}')
    assert "five fields" in alice.does("schedule", "create", "0 0 * *", str(file), "--job", code=2).err
    made = alice.gets(
        "schedule", "create", "30 2 * * *", str(file), "--job", "--zone", "Europe/Berlin", "--missed", "once"
    )
    assert (made["time_zone"], made["missed"], made["state"]) == ("Europe/Berlin", "once", "active")
    schedule = made["id"]
    assert alice.gets("schedule", "pause", schedule)["next_at"] is None
    assert alice.gets("schedule", "resume", schedule)["next_at"]
    assert [one["id"] for one in alice.gets("schedule", "list")] == [schedule]
    assert alice.gets("graph", "list", "--schedule", schedule) == []
    assert alice.gets("schedule", "remove", schedule)["state"] == "ended"
    alice.does("schedule", "show", "sched_no", code=NOT_FOUND)

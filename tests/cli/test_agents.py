"""Agents on the command line: the admin registers one, Alice calls it, approves, and reads the receipt."""

import json

from aitbc_cli.exits import FAILED, NOT_FOUND, REFUSED, TIMED_OUT, USAGE
from tests.cli.installation import CliInstallation


def an_agent(installation: CliInstallation, name: str, **skill: object) -> str:
    """The id of an agent of the admin's that asks a person."""
    step = {"does": "approve", "name": "ok", "question": "Go on?", "within_seconds": 3600, "otherwise": "reject"}
    declared = {"id": name, "name": "Work", "description": "Works.", "price": "0.5", "steps": [step]} | skill
    file = installation.admin.home / f"{name}.json"
    file.write_text(json.dumps({"name": name, "skills": [declared]}))
    return str(installation.admin.gets("agent", "register", str(file))["id"])


def test_an_agent_is_registered_found_called_and_approved(installation: CliInstallation) -> None:
    alice, admin = installation.alice, installation.admin
    agent = an_agent(installation, "careful")
    (found,) = alice.gets("agent", "find", "careful", "--budget", "1")
    assert (found["agent"], found["price"]) == (agent, "0.5")
    assert "would_fit" in alice.does("agent", "find", "careful", "--budget", "0.1", "--json", code=REFUSED).out
    assert alice.gets("agent", "run", agent, "please", "--dry-run")["body"]["text"] == "please"
    asked = alice.does("agent", "run", agent, "please", "-o", "json")
    run = json.loads(asked.out)
    assert run["state"] == "input_required" and "Go on?" in asked.err
    assert alice.gets("agent", "approve", run["id"], "--note", "fine")["state"] == "completed"
    receipt = alice.gets("agent", "receipt", run["id"])
    assert receipt["statement"]["spent"] == "0.5"
    again = alice.gets("agent", "run", agent, "please")["id"]
    alice.does("agent", "approve", run["id"], code=USAGE)
    assert alice.gets("agent", "reject", again)["reason"] == "not_approved"
    third = alice.gets("agent", "run", agent, "please", "--wait", "0s")["id"]
    assert alice.gets("agent", "cancel", third)["state"] == "canceled"
    assert {one["id"] for one in alice.gets("agent", "runs")} >= {run["id"], again, third}
    assert alice.gets("agent", "status", third)["state"] == "canceled"
    assert alice.gets("agent", "show", agent)["reputation"]["completed"] == 1
    assert admin.gets("agent", "state", agent, "paused")["state"] == "paused"
    alice.does("agent", "run", agent, "please", code=REFUSED)
    alice.does("agent", "show", "agt_" + "0" * 26, code=NOT_FOUND)
    assert agent in {one["id"] for one in admin.gets("agent", "list", "--own")}


def test_a_run_that_fails_or_lasts_says_so_by_its_exit_code(installation: CliInstallation) -> None:
    slow = {"does": "delegate", "name": "part", "skill": "patient", "budget": "0"}
    patient = an_agent(installation, "patient", price="0")
    agent = an_agent(installation, "impatient", steps=[slow | {"agent": patient}], price="0")
    lasting = installation.alice.does("agent", "run", agent, "x", "--wait", "1s", code=TIMED_OUT)
    assert "it goes on" in lasting.err
    lost = an_agent(installation, "lost", steps=[slow | {"skill": "nobody-has-this"}], price="0")
    installation.alice.does("agent", "run", lost, "x", code=FAILED)

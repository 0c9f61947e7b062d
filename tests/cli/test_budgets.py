"""Budgets on the command line."""

from aitbc_cli.exits import NOT_FOUND
from tests.cli.installation import CliInstallation


def test_a_budget_limits_what_jobs_may_cost_until_it_is_removed(installation: CliInstallation) -> None:
    alice = installation.alice
    made = alice.gets("budget", "set", "0.04", "--period", "day")
    assert (made["limit"], made["remaining"], made["key"]) == ("0.04", "0.04", None) and made["resets_at"]
    submit = ("job", "submit", "embed", "--text", "hello", "--max-price")
    refused = alice.does(*submit, "0.05", code=5)
    assert "has 0.04 left; this may cost 0.05" in refused.err and "renewed at" in refused.err
    job = alice.gets(*submit, "0.03")
    assert alice.gets("budget", "show", made["id"])["held"] == "0.03"
    assert [one["remaining"] for one in alice.gets("budget", "list")] == ["0.01"]
    alice.gets("job", "cancel", job["id"])
    assert alice.gets("budget", "change", made["id"], "0.06")["remaining"] == "0.06"
    assert alice.gets("budget", "remove", made["id"])["ended_at"]
    assert alice.gets("budget", "list") == []
    alice.does("budget", "show", "bdgt_no", code=NOT_FOUND)

"""Models on the command line: listed, and refused where nobody serves them."""

from aitbc_cli.exits import NOT_FOUND, USAGE
from tests.cli.installation import CliInstallation


def test_models_are_listed_and_one_that_nobody_serves_costs_nothing(installation: CliInstallation) -> None:
    alice = installation.alice
    before = alice.gets("account", "show")
    assert alice.gets("model", "list", "--kind", "chat") == []
    words = ("job", "submit", "embed", "--text", "one", "--model", "nope", "--max-price", "0.05")
    refused = alice.does(*words, code=USAGE)
    assert "No miner serves the embed model 'nope'" in refused.err
    assert alice.gets("account", "show") == before


def test_an_alias_is_set_listed_and_removed(installation: CliInstallation) -> None:
    alice = installation.alice
    made = alice.gets("model", "alias", "default", "llama-3-8b")
    assert (made["name"], made["model"], made["for_all"]) == ("default", "llama-3-8b", False)
    assert [one["id"] for one in alice.gets("model", "aliases")] == [made["id"]]
    assert alice.gets("model", "unalias", made["id"])["ended_at"]
    assert alice.gets("model", "aliases") == []
    alice.does("model", "unalias", "mals_no", code=NOT_FOUND)


def test_a_rate_limit_is_set_listed_and_removed(installation: CliInstallation) -> None:
    alice = installation.alice
    made = alice.gets("limit", "set", "--requests", "600", "--concurrency", "4", "--model", "llama-3-8b")
    assert (made["requests_per_minute"], made["tokens_per_minute"], made["concurrency"]) == (600, None, 4)
    assert [one["id"] for one in alice.gets("limit", "list")] == [made["id"]]
    assert alice.gets("limit", "remove", made["id"])["ended_at"]
    assert alice.gets("limit", "list") == []
    alice.does("limit", "set", code=USAGE)
    alice.does("limit", "remove", "rlim_no", code=NOT_FOUND)

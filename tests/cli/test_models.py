"""Models on the command line: listed, and refused where nobody serves them."""

from aitbc_cli.exits import USAGE
from tests.cli.installation import CliInstallation


def test_models_are_listed_and_one_that_nobody_serves_costs_nothing(installation: CliInstallation) -> None:
    alice = installation.alice
    before = alice.gets("account", "show")
    assert alice.gets("model", "list", "--kind", "chat") == []
    words = ("job", "submit", "embed", "--text", "one", "--model", "nope", "--max-price", "0.05")
    refused = alice.does(*words, code=USAGE)
    assert "No miner serves the embed model 'nope'" in refused.err
    assert alice.gets("account", "show") == before

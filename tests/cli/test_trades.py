"""Trades on the command line: the admin sells, Alice buys, by milestones and after a negotiation."""

from aitbc_cli.exits import REFUSED
from tests.cli.installation import CliInstallation


def test_a_trade_goes_from_the_offer_to_the_rating(installation: CliInstallation) -> None:
    alice, admin = installation.alice, installation.admin
    wish = ("compute_resources", "A night", "--spec", "vram_gb=80")
    offered = admin.gets(
        "trade", "offer", "compute_resources", "An H100", "0.5", "--spec", "vram_gb=80", "--capacity", "2"
    )
    assert (offered["state"], offered["specifications"]) == ("open", {"vram_gb": 80.0})
    request = alice.gets("trade", "request", *wish, "--budget-max", "1")
    matches = alice.gets("trade", "match", request["id"])  # the miner's device on the market fits too
    (match,) = (one for one in matches if one["offer"] == offered["id"])
    milestones = ("--settle", "milestone", "--milestone", "half=1", "--milestone", "rest=1")
    agreed = alice.gets("trade", "accept", match["id"], *milestones)
    settled = alice.gets("trade", "settle", agreed["id"])
    admin.gets("trade", "deliver", settled["id"])
    alice.gets("trade", "confirm", settled["id"])
    ended = admin.gets("trade", "refund", settled["id"], "--payment", "2")
    assert (ended["state"], ended["net"], ended["refunded"]) == ("completed", "0.24375", "0.25")
    assert alice.gets("trade", "rate", agreed["id"], "5")["role"] == "buyer"
    assert alice.gets("trade", "show", agreed["id"])["state"] == "completed"
    assert [one["id"] for one in alice.gets("trade", "list", "settlements")] == [settled["id"]]


def test_a_price_is_negotiated(installation: CliInstallation) -> None:
    alice, admin = installation.alice, installation.admin
    admin.gets("trade", "offer", "data_services", "A data set", "0.5")
    request = alice.gets("trade", "request", "data_services", "Data", "--budget-max", "1")
    (match,) = alice.gets("trade", "match", request["id"])
    begun = alice.gets("trade", "negotiate", match["id"], "--price", "0.3")
    alice.gets("trade", "accept", begun["id"], code=REFUSED)
    countered = admin.gets("trade", "counter", begun["id"], "0.4")
    assert (countered["round"], countered["price"]) == (2, "0.4")
    agreed = alice.gets("trade", "accept", begun["id"])
    assert agreed["price"] == "0.4"
    assert admin.gets("trade", "cancel", agreed["id"])["state"] == "cancelled"

"""Offers and the market on the command line: the admin sells, Alice finds."""

import pytest

from aitbc_cli.commands.offer import unit_price
from aitbc_cli.exits import NOT_ALLOWED, REFUSED, USAGE, Stop
from tests.cli.installation import CliInstallation, MinerAtWork


def test_prices_are_said_for_as_many_units_as_one_likes() -> None:
    assert [unit_price(text) for text in ("0.02/1k", "20/1m", "0.00000001")] == ["0.00002", "0.00002", "0.00000001"]
    for text in ("0.00001/1m", "free", "1/week", "nan"):
        with pytest.raises(Stop):
            unit_price(text)


def test_a_miner_is_put_on_sale_found_and_withdrawn(installation: CliInstallation) -> None:
    alice, admin = installation.alice, installation.admin
    rig = MinerAtWork(installation.server.url, admin.gets("miner", "token")["token"], gpus=["NVIDIA H100 80GB HBM3"])
    with rig:
        rig.wait_until_online()
        wish = (
            "offer",
            "create",
            "--miner",
            rig.miner,
            "--device",
            "0",
            "--price-hour",
            "0.80",
            "--kind",
            "embed=0.02/1k",
        )
        assert [one["body"]["sells"] for one in admin.gets(*wish, "--dry-run")] == ["work", "device"]
        work, device = admin.gets(*wish)
        assert (work["price"], device["price"]) == ("0.00002", "0.8")
        mine = f"miner = {rig.miner}"
        assert [one["id"] for one in alice.gets("market", "search", mine)] == [work["id"], device["id"]]
        found = alice.gets(
            "market", "search", f"{mine} and sells = device and gpu = H100 and price < 1", "--sort", "-price"
        )
        assert [one["id"] for one in found] == [device["id"]]
        told = alice.does("market", "search", "vrem > 1GB", code=USAGE)
        assert "Did you mean vram" in told.err
        assert admin.gets("offer", "change", device["id"], "--price", "0.75")["price"] == "0.75"
        admin.gets("offer", "change", device["id"], "--price", "0.5", "--version", "1", code=REFUSED)
        assert admin.gets("offer", "withdraw", work["id"])["state"] == "withdrawn"
        admin.gets("offer", "rule", "--kind", "embed=0.03/1k", "--by-hand")
        (made,) = [one for one in admin.gets("offer", "sync") if one["miner"] == rig.miner]
        assert made["price"] == "0.00003"
        assert admin.gets("offer", "rule", "--forget") == {"removed": True}
        assert {device["id"], made["id"]} <= {one["id"] for one in admin.gets("offer", "list", "--state", "open")}
        assert alice.gets("offer", "show", device["id"])["version"] == 2


def test_a_bid_gets_a_booking_that_is_disputed_conceded_and_paid_back(installation: CliInstallation) -> None:
    alice, admin = installation.alice, installation.admin
    rig = MinerAtWork(installation.server.url, admin.gets("miner", "token")["token"], gpus=["NVIDIA H100 80GB HBM3"])
    with rig:
        rig.wait_until_online()
        (offer,) = admin.gets("offer", "create", "--miner", rig.miner, "--price-hour", "0.8", "--min-time", "1m")
        wish = ("booking", "create", offer["id"], "5m", "--max-price", "0.1")
        assert "disputed" in alice.gets(*wish, "--dry-run")["refund_rule"]
        bid = ("market", "bid", f"miner = {rig.miner}", "--for", "5m", "--price-hour", "1")
        payer = alice.gets("account", "show")["account"]
        admin.gets("market", "deal", "--deny-buyer", payer)
        assert admin.gets("market", "terms")["buyers"]["accounts"] == [payer]
        resting = alice.gets(*bid, "--post-only")
        assert resting["state"] == "open"
        assert resting["id"] in [one["id"] for one in admin.gets("market", "book")]
        assert alice.gets("market", "cancel", resting["id"])["state"] == "canceled"
        admin.gets("market", "deal", "--any-buyer")
        (got,) = alice.gets(*bid, "--ioc")["trades"]
        assert got["price_hour"] == "0.8"
        booking = alice.gets("booking", "show", got["booking"])
        over = alice.gets("booking", "release", booking["id"])
        assert over["state"] == "ended"
    if over["paid"] == "0":
        assert alice.gets("booking", "dispute", booking["id"], "Away.", code=REFUSED)
        return
    begun = alice.gets("booking", "dispute", booking["id"], "Away.")
    assert (begun["state"], begun["claim"]) == ("open", over["paid"])
    assert [one["id"] for one in admin.gets("booking", "disputes", "--state", "open")] == [begun["id"]]
    assert admin.gets("booking", "evidence", begun["id"], "No.")["evidence"][0]["text"] == "No."
    assert alice.gets("booking", "disputed", begun["id"])["evidence"][0]["text"] == "No."
    alice.gets("booking", "decide", begun["id"], "So.", "--refund", "50", code=NOT_ALLOWED)
    assert admin.gets("booking", "concede", begun["id"])["refunded"] == over["paid"]
    alice.gets("booking", "withdraw", begun["id"], code=REFUSED)

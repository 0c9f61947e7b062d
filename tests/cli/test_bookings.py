"""Bookings on the command line: a GPU is offered, booked, released and paid, and the chain that says so is verified."""

from pathlib import Path

from aitbc_cli.exits import REFUSED
from tests.cli.installation import CliInstallation


def test_a_gpu_is_offered_booked_and_released(installation: CliInstallation, tmp_path: Path) -> None:
    alice, admin = installation.alice, installation.admin
    offered = admin.gets("gpu", "offer", "RTX 4090", "0.25", "--memory-gb", "24", "--region", "attic")
    assert (offered["status"], offered["price_per_hour"]) == ("available", "0.25")
    assert [one["id"] for one in alice.gets("gpu", "list", "--model", "4090", "--available")] == [offered["id"]]
    wanted = ("booking", "create", offered["id"], "1h30m", "--max-price", "0.375")
    assert alice.gets(*wanted, "--dry-run")["duration_seconds"] == 5400
    booking = alice.gets(*wanted, "--label", "training")
    assert (booking["state"], booking["price"], booking["label"]) == ("active", "0.375", "training")
    assert admin.gets("gpu", "show", offered["id"])["status"] == "booked"
    admin.gets("booking", "create", offered["id"], "2m", "--max-price", "1", code=REFUSED)
    admin.gets("gpu", "remove", offered["id"], "--yes", code=REFUSED)
    assert [one["id"] for one in alice.gets("booking", "list", "--status", "active")] == [booking["id"]]
    over = alice.gets("booking", "release", booking["id"])
    assert over["state"] == "released"
    assert 0.37 < float(over["returned"]) <= 0.375
    paid = alice.gets("booking", "show", booking["id"])
    assert alice.gets("tx", "show", paid["transaction"])["kind"] == "rent"
    kinds = [one["kind"] for one in alice.gets("tx", "list", "--reference", booking["id"])]
    assert kinds == ["rent", "hold"]
    assert admin.gets("gpu", "remove", offered["id"], "--yes") == {"id": offered["id"], "status": "removed"}
    chain = tmp_path / "chain.jsonl"
    alice.does("chain", "export", str(chain))
    alice.does("chain", "verify", str(chain))

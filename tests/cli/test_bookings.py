"""Bookings on the command line: a GPU is offered, booked, released and paid, and the chain that says so is verified."""

from pathlib import Path

from aitbc_cli.exits import REFUSED
from tests.cli.installation import CliInstallation, MinerAtWork, Person


def test_a_gpu_is_offered_booked_and_released(installation: CliInstallation, tmp_path: Path) -> None:
    alice, admin = installation.alice, installation.admin
    token = admin.gets("miner", "token")["token"]
    rig = MinerAtWork(installation.server.url, token, gpus=["NVIDIA GeForce RTX 4090"])
    with rig:
        rig.wait_until_online()
        _book_and_release(alice, admin, rig.miner, tmp_path)


def test_a_gpu_that_no_miner_shows_is_offered_and_not_booked(installation: CliInstallation) -> None:
    alice, admin = installation.alice, installation.admin
    offered = admin.gets("gpu", "offer", "H200", "0.25")
    assert (offered["status"], offered["status_reason"]) == ("offline", "no_miner")
    told = alice.does("booking", "create", offered["id"], "1h", "--max-price", "1", code=REFUSED)
    assert "no miner" in told.err


def _book_and_release(alice: Person, admin: Person, miner: str, tmp_path: Path) -> None:
    wish = ("--memory-gb", "24", "--region", "attic", "--miner", miner)
    offered = admin.gets("gpu", "offer", "RTX 4090", "0.25", *wish)
    assert (offered["status"], offered["price_per_hour"]) == ("available", "0.25")
    assert offered["hardware"] == "claimed"
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

"""Stake and governance on the command line: Alice locks, proposes, votes and signs; the admin vetoes."""

import json
from pathlib import Path

from aitbc_cli.exits import REFUSED, USAGE
from tests.cli.installation import CliInstallation


def test_stake_and_a_proposal_from_beginning_to_veto(installation: CliInstallation, tmp_path: Path) -> None:
    alice, admin = installation.alice, installation.admin
    me = alice.gets("account", "show")["account"]
    admin.does("deposit", me, "300")
    assert alice.gets("stake", "lock", "150")["state"] == "done"
    assert alice.gets("stake", "show")["power"] == "150"
    assert alice.gets("stake", "show", me)["own"] == "150"
    other = admin.gets("account", "show")["account"]
    assert alice.gets("stake", "delegate", f"{other}=2500")["delegations"][0]["units"] == "37.5"
    assert alice.gets("gov", "delegate", other)["delegations"][0]["basis_points"] == 10_000
    assert alice.gets("stake", "delegate")["delegations"] == []
    assert alice.gets("gov", "queue") == []
    assert alice.gets("stake", "unlock", "10")["purpose"] == "unstake"
    assert {one["purpose"] for one in alice.gets("stake", "moves")} >= {"stake", "unstake"}
    made = alice.gets("gov", "propose", "Lower the fee", "--set", "trading.fee_basis_points=200", "--text", "Why not?")
    assert (made["class"], made["state"]) == ("parameters", "pending")
    assert made["id"] in {one["id"] for one in alice.gets("gov", "list", "--state", "pending")}
    assert alice.gets("gov", "simulate", made["id"])["changes"]["trading.fee_basis_points"] == [250, 200]
    assert alice.gets("gov", "sponsor", made["id"])["id"] == made["id"]
    alice.does("gov", "vote", made["id"], "for", code=REFUSED)
    alice.does("gov", "execute", made["id"], code=4)
    assert admin.gets("gov", "veto", made["id"], "--reason", "No.")["state"] == "vetoed"
    colour = alice.gets("gov", "propose", "Colour?", "--ballot", "ranked", "--choice", "Red", "--choice", "Blue")
    assert alice.gets("gov", "cancel", colour["id"])["state"] == "cancelled"
    assert alice.gets("gov", "show", colour["id"])["options"] == ["Red", "Blue"]
    assert alice.gets("gov", "votes", colour["id"]) == []
    (fee,) = alice.gets("gov", "parameters", "trading.fee_basis_points")
    assert (fee["value"], fee["origin"]) == (250, "default")
    shown = alice.gets("config", "show", "--live", "--origin")
    assert {"key": "trading.fee_basis_points", "value": 250, "origin": "default"} in shown
    assert alice.gets("gov", "give", "1")["state"] == "done"
    assert float(alice.gets("gov", "treasury")["balance"]) >= 1.0
    report = alice.gets("gov", "treasury", "--since", "2020-01-01", "--until", "2120-01-01")
    assert float(report["received"]["gift"]) >= 1.0
    assert "gift" in {one["purpose"] for one in alice.gets("gov", "payments")}
    alice.does("gov", "propose", "x", "--set", "fee", code=USAGE)


def test_a_vote_is_signed_without_a_server_and_brought(installation: CliInstallation, tmp_path: Path) -> None:
    alice, key = installation.alice, tmp_path / "voter.key"
    proposal, account = "prop_" + "0" * 26, alice.gets("account", "show")["account"]
    wanted = ("gov", "sign-vote", proposal, "for", "--account", account, "--nonce", "1", "--key-file", str(key))
    signed = json.loads(alice.does(*wanted).out)
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    assert json.loads(alice.does(*wanted).out) == signed
    assert alice.gets("gov", "voter-key", signed["vote"]["public_key"])["account"] == account
    file = tmp_path / "vote.json"
    file.write_text(json.dumps(signed))
    told = alice.does("gov", "bring-vote", str(file), code=3)
    assert "proposal" in told.err
    alice.does("gov", "bring-vote", str(key), code=USAGE)

"""After paid work: the result, its receipt and the chain, kept as files and verified without the server."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.installation import CliInstallation, MinerAtWork, served

SEALED_SECONDS = 60.0


@dataclass
class Paid:
    """A job that was done and paid, and where its files are."""

    installation: CliInstallation
    job: dict[str, Any]
    receipt: Path
    chain: Path

    def does(self, *words: str, code: int = 0) -> Any:
        """A command of Alice's, in JSON."""
        return self.installation.alice.gets(*words, code=code)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliInstallation]:
    """An installation of this file's own: its chain is looked at as a whole."""
    with served(tmp_path_factory.mktemp("installation")) as installation:
        installation.settle()
        yield installation


@pytest.fixture(scope="module")
def paid(installation: CliInstallation) -> Paid:
    """Buy work of a miner, and save what proves it."""
    alice = installation.alice
    token = alice.does("miner", "token", "-q").out.strip()
    with MinerAtWork(installation.server.url, token):
        job = alice.gets("job", "submit", "embed", "--text", "hello", "--max-price", "0.05", "--wait")
    receipt, chain = alice.home / "receipt.json", alice.home / "chain.jsonl"
    end = time.monotonic() + SEALED_SECONDS
    while alice.gets("receipt", "show", job["receipt"])["proof"] is None:
        assert time.monotonic() < end, "the receipt was not sealed"
        time.sleep(0.2)
    alice.does("receipt", "save", job["receipt"], "--out", str(receipt))
    alice.does("chain", "export", str(chain))
    return Paid(installation, job, receipt, chain)


def test_the_result_is_there_at_once_and_later(paid: Paid, tmp_path: Path) -> None:
    assert paid.job["state"] == "succeeded"
    assert paid.job["output"]["vectors"] == [[5.0, 1.0]]
    assert paid.does("job", "result", paid.job["id"]) == paid.job["output"]
    assert "[5.0, 1.0]" in paid.installation.alice.does("job", "result", paid.job["id"]).out
    file = tmp_path / "result.json"
    paid.does("job", "result", paid.job["id"], "--out", str(file))
    assert json.loads(file.read_text()) == paid.job["output"]
    assert paid.does("job", "wait", paid.job["id"])["receipt"] == paid.job["receipt"]
    events = paid.installation.alice.does("job", "watch", paid.job["id"], "-o", "jsonl").out.splitlines()
    assert json.loads(events[-1])["data"]["state"] == "succeeded"


def test_the_receipt_is_verified_from_its_file_alone(paid: Paid) -> None:
    alone = paid.installation.person("alone")
    checked = alone.gets("receipt", "verify", str(paid.receipt))
    assert (checked["verified"], checked["job"], checked["trusted"]) == (True, paid.job["id"], False)
    keys = [row["public_key"] for row in paid.does("chain", "keys")]
    trusted = alone.gets("receipt", "verify", str(paid.receipt), "--key", keys[0])
    assert trusted["trusted"] is True
    other = keys[0][:-4] + ("AAAA" if keys[0][-4:] != "AAAA" else "BBBB")
    assert alone.gets("receipt", "verify", str(paid.receipt), "--key", other, code=1)["error"]["code"] == "not_verified"


def test_a_receipt_that_was_touched_is_refused(paid: Paid, tmp_path: Path) -> None:
    told = json.loads(paid.receipt.read_text())
    told["receipt"]["price"] = "0.04"
    touched = tmp_path / "touched.json"
    touched.write_text(json.dumps(told))
    ended = paid.installation.alice.does("receipt", "verify", str(touched), code=1)
    assert ended.out == ""
    assert "verified" not in ended.err
    for content in (b"", b"{}", b"[1", b"\xff\xfe", b"null"):
        touched.write_bytes(content)
        paid.installation.alice.does("receipt", "verify", str(touched), code=1)
    paid.installation.alice.does("receipt", "verify", str(tmp_path / "missing.json"), code=2)


def test_the_job_names_its_receipt(paid: Paid) -> None:
    [row] = paid.does("receipt", "list", "--job", paid.job["id"])
    assert row["id"] == paid.job["receipt"]
    assert paid.does("receipt", "show", paid.job["id"])["receipt"]["id"] == paid.job["receipt"]
    assert "proof" in json.loads(paid.installation.alice.does("receipt", "save", paid.job["id"], "--out", "-").out)


def test_the_chain_is_verified_from_its_file_alone(paid: Paid) -> None:
    checked = paid.installation.person("alone").gets("chain", "verify", str(paid.chain))
    assert (checked["verified"], checked["receipts"]) == (True, 1)
    alice = paid.installation.alice
    assert "chain verified" in alice.does("chain", "verify", str(paid.chain), "--head", checked["head"]).out
    alice.does("chain", "verify", str(paid.chain), "--head", "sha256:" + "0" * 64, code=1)
    piped = alice.does("chain", "verify", "-", "--json", input=paid.chain.read_text())
    assert json.loads(piped.out)["head"] == checked["head"]


def test_a_changed_line_is_found_and_named(paid: Paid, tmp_path: Path) -> None:
    lines = paid.chain.read_text().splitlines(keepends=True)
    number, line = next((at, each) for at, each in enumerate(lines, 1) if '"deposit"' in each and '"10"' in each)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join([*lines[: number - 1], line.replace('"10"', '"11"', 1), *lines[number:]]))
    error = paid.does("chain", "verify", str(bad), code=1)["error"]
    assert error["code"] == "not_verified"
    assert error["line"] == number
    assert f"line {number}" in paid.installation.alice.does("chain", "verify", str(bad), code=1).err


@pytest.mark.parametrize("damage", ["cut", "half", "twice", "empty", "noise"])
def test_a_damaged_export_is_no_chain(damage: str, paid: Paid, tmp_path: Path) -> None:
    whole = paid.chain.read_bytes()
    lines = whole.splitlines(keepends=True)
    damaged = {
        "cut": b"".join(lines[:-1]),
        "half": whole[: len(whole) // 2],
        "twice": b"".join([*lines[:2], lines[1], *lines[2:]]),
        "empty": b"",
        "noise": b"\xff\x00not json\n" + whole,
    }
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(damaged[damage])
    ended = paid.installation.alice.does("chain", "verify", str(bad), code=1)
    assert ended.out == ""
    assert str(bad) in ended.err


def test_blocks_transactions_and_addresses_are_found_from_each_other(paid: Paid) -> None:
    for _ in range(5):  # a block may be sealed at any moment
        head = paid.does("block", "show", "head")
        newest = paid.does("block", "list", "--limit", "1")[0]["hash"], paid.does("chain", "head")["hash"]
        if newest == (head["hash"], head["hash"]):
            break
    assert newest == (head["hash"], head["hash"])
    assert paid.does("block", "show", str(head["height"]))["hash"] == head["hash"]
    assert len(paid.does("block", "records", "1")) == paid.does("block", "show", "1")["records"]
    found = paid.does("search", paid.job["receipt"])
    assert found["id"] == paid.job["receipt"]
    assert paid.does("search", "1")["kind"] == "block"
    paid.does("search", "sha256:" + "0" * 64, code=3)
    paid.does("block", "show", "999999", code=3)
    account = paid.installation.alice.environment["ACCOUNT"]
    transactions = paid.does("tx", "list", "--reference", paid.job["id"])
    assert {row["kind"] for row in transactions} >= {"hold"}
    told = paid.does("tx", "show", transactions[0]["id"])
    assert f"{account}/main" in {entry["account"] for entry in told["entries"]}
    assert paid.does("address", "show", account)["account"] == account
    assert {row["account"] for row in paid.installation.admin.gets("address", "list")} >= {account}


def test_an_admin_undoes_a_deposit_once(paid: Paid) -> None:
    admin = paid.installation.admin
    olga = paid.installation.resident("olga", funds="3")
    [entry] = olga.gets("account", "statement")
    admin.does("tx", "correct", entry["transaction"], "--reason", "typo", code=2)
    admin.does("tx", "correct", entry["transaction"], "--reason", "typo", "--dry-run")
    assert olga.gets("account", "show")["available"] == "3"
    done = admin.gets("tx", "correct", entry["transaction"], "--reason", "typo", "--yes")
    assert olga.gets("account", "show")["available"] == "0"
    assert admin.gets("tx", "correct", entry["transaction"], "--reason", "typo", "--yes") == done
    assert olga.gets("account", "show")["available"] == "0"
    assert admin.gets("ledger", "verify")["ok"] is True

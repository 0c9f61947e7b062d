"""People at a served installation, by the real program: accounts, keys, money, jobs, and what they must not see."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.installation import CliInstallation, MinerAtWork, Person

UNKNOWN_JOB = "job_" + "0" * 26
SUBMIT = ("job", "submit", "embed", "--text", "hello", "--max-price", "0.05")


def submitted(person: Person, *more: str) -> str:
    """A submitted job."""
    return person.does(*SUBMIT, "-q", *more).out.strip()


def balance(person: Person) -> tuple[str, str]:
    """What somebody has, and what is held of it."""
    told = person.gets("account", "show")
    return told["available"], told["held"]


# Accounts and keys


def test_an_account_is_made_and_listed_once_by_its_idempotency_key(installation: CliInstallation) -> None:
    first = installation.admin.gets("account", "create", "carol", "--idempotency-key", "carol-once")
    again = installation.admin.gets("account", "create", "carol", "--idempotency-key", "carol-once")
    assert again == first
    names = [row["name"] for row in installation.admin.gets("account", "list", "--all")]
    assert names.count("carol") == 1
    seen = [row["id"] for row in installation.alice.gets("account", "list")]
    assert seen == [installation.alice.environment["ACCOUNT"]]
    installation.alice.does("account", "create", "mallory", code=4)


def test_a_dry_run_says_what_would_be_sent_and_changes_nothing(installation: CliInstallation) -> None:
    before = installation.admin.gets("account", "list", "--all")
    plan = installation.admin.gets("account", "create", "nobody-at-all", "--dry-run")
    assert (plan["dry_run"], plan["method"], plan["body"]) == (True, "POST", {"name": "nobody-at-all"})
    assert installation.admin.gets("account", "list", "--all") == before
    money = balance(installation.alice)
    installation.admin.does("deposit", installation.alice.environment["ACCOUNT"], "5", "--dry-run")
    assert balance(installation.alice) == money


def test_a_command_is_shown_as_curl_which_does_the_same_without_showing_the_key(installation: CliInstallation) -> None:
    key = Path(installation.alice.environment["AITBC_API_KEY_FILE"]).read_text()

    def rerun(*words: str) -> Any:
        line = installation.alice.does(*words, "--curl").out
        assert key not in line
        assert line.startswith("curl ")
        ended = subprocess.run(
            ["bash", "-c", line], env={**os.environ, "AITBC_API_KEY": key}, capture_output=True, text=True, check=True
        )
        return json.loads(ended.stdout)

    money = balance(installation.alice)
    installation.alice.does(*SUBMIT, "--curl")
    assert balance(installation.alice) == money
    made = rerun("job", "submit", "embed", "--text", 'it\'s "quoted" $HOME `x` \u00e9\n', "--max-price", "0.05")
    shown = rerun("job", "show", made["id"])
    assert shown["input"] == {"texts": ['it\'s "quoted" $HOME `x` \u00e9\n']}
    assert made["id"] in {job["id"] for job in rerun("job", "list", "--limit", "5")["data"]}
    assert rerun("job", "cancel", made["id"], "--yes")["state"] == "canceled"


def test_a_secret_is_shown_once_or_written_where_only_its_owner_reads_it(installation: CliInstallation) -> None:
    dora = installation.resident("dora")
    file = dora.home / "second.key"
    ended = dora.does("key", "create", "second", "--save", str(file), "--json")
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in ended.out + ended.err
    shown = dora.gets("key", "create", "third")
    assert shown["secret"].startswith("aitbc_live_")
    assert shown["secret"] not in dora.does("key", "list", "--json").out
    told = dora.knows(AITBC_API_KEY=shown["secret"]).gets("key", "whoami")
    assert (told["key"], told["key_origin"]) == (shown["id"], "AITBC_API_KEY")


def test_a_key_is_rotated_with_an_overlap_and_revoked_at_once(installation: CliInstallation) -> None:
    emil = installation.resident("emil")
    old = emil.gets("key", "create", "old")
    new = emil.gets("key", "rotate", old["id"], "--overlap", "1h")
    with_old, with_new = (emil.knows(AITBC_API_KEY=key["secret"]) for key in (old, new))
    assert with_new.gets("key", "whoami")["key"] == new["id"]
    with_old.does("key", "whoami")
    emil.does("key", "revoke", old["id"], code=2)
    with_old.does("key", "whoami")
    assert emil.gets("key", "revoke", old["id"], "--yes")["revoked_at"] is not None
    refused = with_old.does("key", "whoami", code=4)
    assert "AITBC_API_KEY" in refused.err
    emil.does("key", "revoke", "key_" + "0" * 26, "--yes", code=3)


def test_a_key_with_few_scopes_can_do_little(installation: CliInstallation) -> None:
    secret = installation.alice.gets("key", "create", "reader", "--scope", "jobs:read")["secret"]
    reader = installation.alice.knows(AITBC_API_KEY=secret)
    reader.does("job", "list")
    ended = reader.does(*SUBMIT, code=4)
    assert "jobs:create" in ended.err
    assert "aitbc key whoami" in ended.err


# Money


def test_a_deposit_happens_once_under_its_key_and_is_in_the_statement(installation: CliInstallation) -> None:
    fred = installation.resident("fred")
    account = fred.environment["ACCOUNT"]
    for _ in range(2):
        installation.admin.does("deposit", account, "2.5", "--reason", "=cmd()", "--idempotency-key", "fred-monday")
    other = installation.admin.does("deposit", account, "3", "--idempotency-key", "fred-monday", code=2)
    assert "Idempotency-Key" in other.err
    assert balance(fred) == ("2.5", "0")
    [entry] = csv.DictReader(io.StringIO(fred.does("account", "statement", "-o", "csv").out))
    assert (entry["amount"], entry["after"]) == ("2.5", "2.5")
    assert entry["reason"] == "'=cmd()"
    assert fred.gets("account", "statement")[0]["reason"] == "=cmd()"
    installation.admin.does("deposit", account, "0.000000001", code=2)
    fred.does("deposit", account, "1", code=4)


def test_a_faucet_that_is_not_open_gives_nothing(installation: CliInstallation) -> None:
    before = balance(installation.alice)
    ended = installation.alice.does("faucet", "1", code=4)
    assert "deposit" in ended.err
    assert balance(installation.alice) == before


# Jobs


def test_a_quote_changes_nothing(installation: CliInstallation) -> None:
    before, jobs = balance(installation.alice), installation.alice.gets("job", "list", "--all")
    quote = installation.alice.gets(*SUBMIT, "--dry-run")
    assert quote["sufficient"] is True
    assert float(quote["price_max"]) <= 0.05
    assert installation.alice.gets("job", "submit", "embed", "--text", "hello", "--dry-run")["max_price"] is None
    assert balance(installation.alice) == before
    assert installation.alice.gets("job", "list", "--all") == jobs


def test_a_job_is_submitted_once_shown_explained_and_canceled(installation: CliInstallation) -> None:
    gina = installation.resident("gina", funds="1")
    assert gina.gets("job", "list") == []
    job = submitted(gina, "--idempotency-key", "one")
    assert submitted(gina, "--idempotency-key", "one") == job
    assert [row["id"] for row in gina.gets("job", "list")] == [job]
    assert balance(gina) == ("0.95", "0.05")
    assert gina.gets("job", "show", job)["state"] == "queued"
    why = gina.gets("job", "explain", job)
    assert why["summary"]
    assert "miner" in gina.does("job", "explain", job).out
    assert gina.gets("job", "cancel", job, "--dry-run")["dry_run"] is True
    assert gina.gets("job", "show", job)["state"] == "queued"
    assert gina.gets("job", "cancel", job)["state"] == "canceled"
    assert balance(gina) == ("1", "0")
    gina.does("job", "result", job, code=5)
    ended = gina.does("job", "wait", job, code=1)
    assert "nothing was paid" in ended.err


def test_several_jobs_are_canceled_as_far_as_they_are_there(installation: CliInstallation) -> None:
    one, two = submitted(installation.alice), submitted(installation.alice)
    ended = installation.alice.does("job", "cancel", one, UNKNOWN_JOB, "--json", code=8)
    assert [row["state"] for row in json.loads(ended.out)] == ["canceled"]
    assert UNKNOWN_JOB in ended.err
    installation.alice.does("job", "cancel", UNKNOWN_JOB, UNKNOWN_JOB.replace("0", "1"), code=3)
    installation.alice.does("job", "cancel", one, two)


@pytest.mark.parametrize("verb", ["wait", "watch"])
def test_staying_with_a_job_ends_in_time_and_says_how_to_come_back(verb: str, installation: CliInstallation) -> None:
    job = submitted(installation.alice)
    ended = installation.alice.does("job", verb, job, "--timeout", "1s", code=7)
    assert f"aitbc: {job} has not ended within 1 s; it goes on" in ended.err
    assert f"aitbc job wait {job}" in ended.err
    assert installation.alice.gets("job", "show", job)["state"] == "queued"
    told = installation.alice.gets("job", verb, job, "--timeout", "1s", code=7) if verb == "wait" else None
    assert told is None or told["error"]["job"] == job
    installation.alice.does("job", "cancel", job)


def test_what_it_may_cost_and_what_one_has_are_respected(installation: CliInstallation) -> None:
    ended = installation.alice.does(*SUBMIT[:-1], "5000", code=5)
    assert "aitbc account show" in ended.err
    told = installation.alice.gets(*SUBMIT[:-1], "5000", code=5)
    assert told["error"]["code"] == "insufficient_funds"
    assert "--max-price" in installation.alice.does(*SUBMIT[:-2], code=2).err
    assert "--wait" in installation.alice.does(*SUBMIT, "--out", "x.json", code=2).err


def test_what_belongs_to_others_looks_like_nothing(installation: CliInstallation) -> None:
    job = submitted(installation.alice)
    hugo = installation.resident("hugo")
    for verb in ("show", "explain", "logs", "wait", "watch", "result", "cancel"):
        assert hugo.does("job", verb, job, code=3).out == ""
    hugo.does("account", "show", installation.alice.environment["ACCOUNT"], code=3)
    installation.alice.does("job", "cancel", job)


def test_a_job_that_fails_says_so_and_costs_nothing(installation: CliInstallation) -> None:
    ivan = installation.resident("ivan", funds="1")
    token = ivan.does("miner", "token", "-q").out.strip()
    with MinerAtWork(installation.server.url, token, fails=True):
        ended = ivan.does(*SUBMIT, "--attempts", "1", "--wait", "--json", code=1)
    assert json.loads(ended.out)["state"] == "failed"
    assert "no such text" in ended.err
    assert "nothing was paid" in ended.err
    assert balance(ivan) == ("1", "0")


# Operators


def test_the_operator_sees_who_did_what_and_nobody_else_does(installation: CliInstallation) -> None:
    rows = installation.admin.gets("audit", "list", "--action", "deposit", "--all")
    assert {row["action"] for row in rows} == {"deposit"}
    assert all(row["request_id"] for row in rows)
    assert installation.admin.gets("audit", "list", "--module", "trading", "--limit", "1")[0]["module"] == "trading"
    submitted(installation.alice)
    installation.admin.does("events", "list", "--limit", "3", "-o", "csv")
    assert installation.admin.gets("events", "list", "--status", "dead") == []
    for words in (("audit", "list"), ("events", "list"), ("ledger", "verify"), ("address", "list")):
        ended = installation.alice.does(*words, code=4)
        assert ended.out == ""
    assert installation.admin.gets("ledger", "verify")["ok"] is True


def test_settings_are_shown_with_their_origin_and_without_secrets(
    installation: CliInstallation, tmp_path: Path
) -> None:
    canary = "canary-1f6a2c"
    knowing = installation.admin.knows(AITBC_API_KEY=canary, AITBC_SECRET_KEY=canary, AITBC_SERVER__PORT="8123")
    ended = knowing.does("config", "show", "--origin", "--json")
    assert canary not in ended.out + ended.err
    rows = {row["key"]: row for row in json.loads(ended.out)}
    assert rows["client.api_key"] == {"key": "client.api_key", "value": "********", "origin": "AITBC_API_KEY"}
    assert rows["client.url"]["origin"] == "AITBC_URL"
    assert (rows["server.port"]["value"], rows["server.port"]["origin"]) == ("8123", "AITBC_SERVER__PORT")
    assert rows["server.host"]["origin"] == "default"
    wrong = installation.admin.knows(AITBC_SERVER__PROT="8123").does("config", "validate", code=78)
    assert "server.port" in wrong.err.lower() or "SERVER__PORT" in wrong.err


def test_a_secret_is_refused_as_an_argument(installation: CliInstallation) -> None:
    ended = installation.admin.does("serve", "--set", "database.url=postgresql://x:y@h/d", code=2)
    assert "AITBC_DATABASE__URL" in ended.err
    assert "x:y" not in ended.err
    ended = installation.admin.does("key", "whoami", "--api-key", "aitbc_live_x", code=2)
    assert "--api-key-file" in ended.err
    assert "aitbc_live_x" not in ended.err


def test_a_name_that_would_steer_a_terminal_never_reaches_it(installation: CliInstallation) -> None:
    ended = installation.admin.does("account", "create", "\x1b]0;owned\x07", code=2)
    assert "\x1b" not in ended.out + ended.err
    job = installation.alice.does("job", "show", "\x1b[2J\u202ejob", code=2)
    assert not {"\x1b", "\u202e"} & set(job.out + job.err)

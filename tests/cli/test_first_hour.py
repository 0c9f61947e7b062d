"""What newcomers met in their first hour: settings that are empty, names that are wrong, a server that has not run yet."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aitbc_cli.commands.ledger import _place
from aitbc_cli.exits import NOT_ALLOWED, USAGE
from aitbc_cli.settings import Flags, find, is_same_server
from tests.cli.installation import CliInstallation, MinerAtWork
from tests.cli.program import in_process
from tests.cli.test_settings import local_server
from tests.cli.tiny_server import Received, Reply, answering, nowhere, problem, told

PAGE = {"data": [], "has_more": False, "next_cursor": None}
TOKEN = "aitbc_enrol_x"


@pytest.mark.parametrize("variable", ["AITBC_TIMEOUT", "AITBC_OUTPUT", "AITBC_PROFILE", "AITBC_URL", "AITBC_STATE_DIR"])
def test_a_variable_that_is_empty_counts_as_not_set(
    variable: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "")
    monkeypatch.setenv("AITBC_API_KEY", "aitbc_live_of_a_test")
    with answering(told(PAGE)) as server:
        url = ["--url", server.url] if variable != "AITBC_URL" else []
        if not url:
            local_server({"AITBC_STATE_DIR": str(home / "state")}, server.url)
        ended = in_process(capsys, "job", "list", "-q", *url)
    assert ended.code == 0, ended.err


def test_a_flag_that_is_empty_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(capsys, "job", "list", "--timeout", "").code == USAGE


@pytest.mark.parametrize("verb", ["run", "enrol"])
@pytest.mark.parametrize("name", ["", "  ", "x" * 101, " attic", "at\x1btic"])
def test_a_name_that_no_miner_may_have_is_named_as_the_fault(
    verb: str, name: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITBC_ENROLMENT_TOKEN", TOKEN)
    ended = in_process(capsys, "miner", verb, "--name", name, "--url", nowhere())
    assert (ended.code, "--name" in ended.err) == (USAGE, True), ended.err


def test_a_refusal_of_the_server_names_the_field(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITBC_ENROLMENT_TOKEN", TOKEN)
    refusal = problem(422, "invalid", "The request is not valid.")
    document = json.loads(refusal.body) | {"errors": [{"pointer": "/capabilities/region", "message": "no region"}]}
    with answering(told(document, 422)) as server:
        ended = in_process(capsys, "miner", "enrol", "--kind", "embed", "--region", "!", "--url", server.url)
    assert "capabilities/region: no region" in ended.err, ended.err


@pytest.mark.parametrize("verb", ["run", "enrol"])
def test_a_miner_without_a_token_is_refused_at_once(verb: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    ended = in_process(capsys, "miner", verb, "--name", "attic", "--url", nowhere())
    assert (ended.code, time.monotonic() - started < 20) == (NOT_ALLOWED, True), ended
    assert "aitbc miner token" in ended.err


def test_a_miner_is_known_under_every_name_of_loopback(installation: CliInstallation) -> None:
    alice = installation.alice
    token = alice.does("miner", "token", "-q").out.strip()
    words = ("miner", "enrol", "--name", "attic", "--kind", "embed", "--state-dir", str(alice.home / "attic"))
    first = alice.knows(AITBC_ENROLMENT_TOKEN=token).gets(*words)
    assert "127.0.0.1" in first["url"]
    keyless = installation.person("keyless").knows(AITBC_URL=first["url"].replace("127.0.0.1", "localhost"))
    assert keyless.gets(*words)["miner"] == first["miner"]


def test_a_machine_without_any_key_shows_a_code_that_its_owner_approves(installation: CliInstallation) -> None:
    machine = installation.person("new-machine")
    words = ("miner", "enrol", "--code", "--name", "cellar", "--kind", "embed", "-o", "json")
    command, pipe = [sys.executable, "-m", "aitbc_cli.main", *words], subprocess.PIPE
    with subprocess.Popen(
        command, env=machine.environment, cwd=machine.home, stdout=pipe, stderr=pipe, text=True
    ) as program:
        try:
            assert program.stderr is not None
            code = next(found[1] for line in program.stderr if (found := re.search(r"code=([A-Z]{4}-[A-Z]{4})", line)))
            approved = installation.alice.gets("miner", "approve", code.lower(), "--yes")
            out, err = program.communicate(timeout=120)
        finally:
            program.kill()
    assert (program.returncode, approved["state"], approved["name"]) == (0, "approved", "cellar"), err
    enrolled = json.loads(out)
    assert enrolled["fingerprint"] == approved["fingerprint"]
    assert enrolled["miner"] in {one["id"] for one in installation.alice.gets("miner", "list", "--limit", "200")}


def test_the_local_admin_is_known_under_every_name_of_loopback(home: Path) -> None:
    environ = {"HOME": str(home), "AITBC_STATE_DIR": str(home / "state"), "AITBC_URL": "http://localhost:9000"}
    local_server(environ)
    found = find(Flags(), environ)
    assert (found.url, found.key) == ("http://127.0.0.1:9000", "key-of-admin")  # and the key goes to nobody else's port


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("http://localhost:8080", True),
        ("http://[::1]:8080/", True),
        ("http://LOCALHOST:8080", True),
        ("http://127.0.0.1:8081", False),
        ("https://127.0.0.1:8080", False),
        ("http://example.org:8080", False),
        ("http://127.0.0.1:8080/aitbc", False),
    ],
)
def test_urls_of_one_server(other: str, same: bool) -> None:
    assert is_same_server("http://127.0.0.1:8080", other) is same


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("port = 8123", "http://127.0.0.1:8123"),
        ('port = 8123\nhost = "0.0.0.0"', "http://127.0.0.1:8123"),
        ('host = "10.0.0.5"', "http://10.0.0.5:8080"),
        ('host = "::"\nport = 9', "http://[::1]:9"),
        ('port = 8443\ntls_certificate = "c.pem"', "https://127.0.0.1:8443"),
        ("port = 0", "http://127.0.0.1:8080"),  # any free one: nobody knows it before the server runs
    ],
)
def test_the_server_is_asked_where_it_is_set_to_listen(text: str, url: str, home: Path) -> None:
    (home / "aitbc.toml").write_text(f"[server]\n{text}\n")
    environ = {"HOME": str(home), "AITBC_STATE_DIR": str(home / "state")}
    found = find(Flags(), environ)
    assert (found.url, found.url_origin) == (url, "aitbc.toml")
    by_variable = find(Flags(), environ | {"AITBC_SERVER__PORT": "8222"})
    assert by_variable.url.endswith(":8222")
    local_server(environ)
    assert find(Flags(), environ).url == "http://127.0.0.1:9000"  # one that runs says itself where


def test_what_does_not_hold_is_placed_by_what_is_known() -> None:
    outside = {"height": None, "record": "acct_1", "field": "balance", "message": "it is 1 more than its entries"}
    assert _place(outside) == "record acct_1, balance: it is 1 more than its entries"
    sealed = {"height": 0, "record": None, "field": "hash", "message": "it differs"}
    assert _place(sealed) == "block 0, hash: it differs"


@pytest.mark.parametrize("unpaid", [[], ["job_2"]])
def test_verifying_the_ledger_names_jobs_without_a_receipt(
    unpaid: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = dict.fromkeys(("height", "transactions", "entries", "receipts", "unsealed", "accounts"), 3)
    payments = {"ok": not unpaid, "jobs": 3, "unpaid": len(unpaid), "unpaid_jobs": unpaid}

    def answer(asked: Received) -> Reply:
        return told(payments if "payments" in asked.path else {"ok": True, "head": "h", "divergence": None, **ledger})

    monkeypatch.setenv("AITBC_API_KEY", "aitbc_admin_of_a_test")
    with answering(answer) as server:
        ended = in_process(capsys, "ledger", "verify", "--url", server.url, "-o", "json")
    if unpaid:
        assert ended.code == 1
        assert "1 of 3 jobs that succeeded have no receipt, the first is job_2" in ended.err
        return
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["paid_jobs"] == 3


def test_an_event_that_can_never_succeed_is_ended_with_its_reason(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AITBC_API_KEY", "aitbc_admin_of_a_test")
    with answering(told({"id": "evt_1", "state": "dead"})) as server:
        words = ("events", "end", "evt_1", "--reason", "paid by hand", "--yes", "--url", server.url)
        ended = in_process(capsys, *words)
    assert ended.code == 0, ended.err
    (asked,) = server.asked
    assert (asked.method, asked.json()) == ("POST", {"reason": "paid by hand"})
    assert asked.path.endswith("/events/evt_1/end")


def test_a_log_that_is_longer_than_what_is_printed_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AITBC_API_KEY", "aitbc_live_of_a_test")
    at = "2026-11-26T10:00:00Z"
    lines = [{"attempt": 1, "sequence": number, "at": at, "text": f"line {number}"} for number in range(103)]
    page = told({"data": lines, "has_more": False, "next_cursor": None})
    with answering(page) as server:
        ended = in_process(capsys, "job", "logs", "job_1", "--url", server.url)
        whole = in_process(capsys, "job", "logs", "job_1", "--all", "--url", server.url)
    assert ended.code == 0, ended.err
    assert [line for line in ended.out.splitlines() if "line 49" in line or "line 50" in line] == ["line 49"]
    assert "there is more; --limit 100 shows more of it, --all everything" in ended.err
    assert whole.out.splitlines()[-1] == "line 102" and "there is more" not in whole.err


def test_a_dry_booking_says_what_would_be_held_and_holds_nothing(installation: CliInstallation) -> None:
    token = installation.admin.gets("miner", "token")["token"]
    with MinerAtWork(installation.server.url, token, gpus=["NVIDIA GeForce RTX 4090"]) as rig:
        rig.wait_until_online()
        _book_dry_and_then(installation, rig.miner)


def _book_dry_and_then(installation: CliInstallation, miner: str) -> None:
    alice, admin = installation.alice, installation.admin
    gpu = admin.gets("gpu", "offer", "RTX 4090", "0.25", "--miner", miner)["id"]
    assert gpu in alice.does("gpu", "list", "--model", "rtx-4090", "-q").out
    words = ("booking", "create", gpu, "1h30m", "--max-price", "0.3", "--dry-run")
    plan = alice.gets(*words)
    expected = {"dry_run": True, "held": "0.375", "max_price": "0.3", "sufficient": False, "status": "available"}
    assert {name: plan[name] for name in expected} == expected
    assert "0.375" in alice.does(*words).out
    assert alice.gets("booking", "list") == []
    held = alice.gets("booking", "create", gpu, "1h30m", "--max-price", "1")["price"]
    assert held == plan["held"]
    booked = alice.gets("booking", "list", "--state", "active", "-o", "json")
    assert [one["price"] for one in booked] == [held]
    assert alice.gets("booking", "list", "--status", "released") == []  # the older spelling of --state


def test_the_running_attempt_is_among_the_attempts(installation: CliInstallation) -> None:
    alice = installation.alice
    job = alice.gets("job", "submit", "embed", "--text", "x", "--max-price", "0.05")["id"]
    line = next(line for line in alice.does("job", "show", job).out.splitlines() if line.startswith("Attempts "))
    assert line.split(maxsplit=1)[1] == "0, of which 0 count towards 3"
    assert alice.gets("job", "show", job)["attempts"] == 0

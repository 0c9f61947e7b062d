"""The doctor and a server: a real one that is broken on purpose, and one that tells what a broken one would."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aitbc.app import MODULES, parts
from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.database.migrations import head_of
from aitbc_cli.client import Api
from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.rounds import CHECKS, examine
from aitbc_cli.settings import Flags, find
from tests.chaos.server_process import ServerProcess

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


WORKING = ("version", "key-expiry", "key-scopes", "ledger", "events", "work")
"""What is asked of a server that works."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests of this file."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    process = ServerProcess(tmp_path_factory.mktemp("served") / "state", port)
    process.start()
    yield process
    if process.is_alive:
        process.stop()


def case_of(served: ServerProcess, **more: Any) -> Case:
    """A fresh look at the installation, as its own user takes it."""
    environ = {**ENVIRONMENT, "AITBC_STATE_DIR": str(served.state), **more.pop("environ", {})}
    return Case(environ=environ, folder=served.state.parent, system_file=served.state / "none", **more)


def row(case: Case, name: str) -> dict[str, Any]:
    """The row of one check."""
    (found,) = examine(case, [check for check in CHECKS if check.name == name])
    return found


def admin(served: ServerProcess) -> Api:
    """The operator, asking."""
    return Api(find(Flags(), {"AITBC_STATE_DIR": str(served.state), "HOME": "/nonexistent"}), seconds=10)


def key_of(served: ServerProcess, **grant: Any) -> dict[str, Any]:
    """A new API key, its secret included."""
    made: dict[str, Any] = admin(served).post("/api/v1/identity/keys", {"name": "test", "kind": "live", **grant})
    return made


# A real server -------------------------------------------------------------------------------------------------------


def test_a_healthy_installation_has_nothing_failed_and_is_examined_in_time(served: ServerProcess) -> None:
    for _ in range(10):  # on a starved machine the server is given some time to have everything measured
        started = time.monotonic()
        rows = examine(case_of(served), CHECKS)
        assert time.monotonic() - started < 20
        if not {"failed", "skipped"} & {each["result"] for each in rows if each["check"] in WORKING}:
            break
    results = {each["check"]: each["result"] for each in rows}
    wanted = (
        "server-file",
        "lock",
        "data",
        "database",
        "migrations",
        "port",
        "server",
        "ready",
        "clock",
        "key",
        "chain",
    )
    assert {name: results[name] for name in wanted} == dict.fromkeys(wanted, "ok"), rows
    assert {name: results[name] for name in WORKING} == dict.fromkeys(WORKING, "ok"), rows
    assert "failed" not in results.values(), rows


def test_a_key_that_the_server_does_not_know_is_named_by_where_it_was_found(served: ServerProcess) -> None:
    assert row(case_of(served, environ={"AITBC_API_KEY": "hello"}), "key")["fix"] == "unset AITBC_API_KEY"
    found = row(case_of(served, environ={"AITBC_API_KEY": new_key("live")}), "key")
    assert found["result"] == "failed" and "the server refuses the key from AITBC_API_KEY" in found["message"]
    assert found["fix"] == "unset AITBC_API_KEY"


def test_no_key_for_another_server_is_a_failure(served: ServerProcess, tmp_path: Path) -> None:
    elsewhere = {**ENVIRONMENT, "AITBC_STATE_DIR": str(tmp_path)}
    found = row(Case(environ=elsewhere, flags=Flags(url=served.url), folder=tmp_path), "key")
    assert found["result"] == "failed" and found["fix"].startswith("export AITBC_API_KEY_FILE=FILE")
    nobody = row(Case(environ=elsewhere, flags=Flags(url="http://127.0.0.1:1"), folder=tmp_path), "key")
    assert (nobody["result"], nobody["fix"]) == ("skipped", "aitbc serve --port 1")


def test_a_key_that_ends_soon_is_a_warning_with_its_rotation(served: ServerProcess) -> None:
    made = key_of(served, expires_in_days=1)
    found = row(case_of(served, environ={"AITBC_API_KEY": made["secret"]}), "key-expiry")
    assert found["result"] == "warning"
    assert found["fix"] == f"aitbc key rotate {made['id']} --save ~/.config/aitbc/key"


def test_what_a_key_may_not_see_is_skipped_with_the_scope_it_lacks(served: ServerProcess) -> None:
    narrow = {"AITBC_API_KEY": key_of(served, scopes=["jobs:read"])["secret"]}
    rows = {each["check"]: each for each in examine(case_of(served, environ=narrow), CHECKS)}
    assert rows["key"]["result"] == "ok"
    for name, scope in (("events", "events:read"), ("chain", "chain:read"), ("ledger", "metrics:read")):
        assert rows[name]["result"] == "skipped" and scope in rows[name]["message"]


def test_the_doctor_asks_nothing_that_is_refused(served: ServerProcess) -> None:
    before = refused_requests(served)
    examine(case_of(served), CHECKS)
    assert refused_requests(served) == before


def refused_requests(served: ServerProcess) -> dict[str, float]:
    """How many requests were answered with 400 and 422, by their labels."""
    text = admin(served).look("/metrics").content.decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("aitbc_http_requests_total{")]
    return {labels: float(value) for labels, _, value in lines if 'status="400"' in labels or 'status="422"' in labels}


def test_a_clock_that_is_off_is_a_warning_in_either_direction(served: ServerProcess) -> None:
    for seconds, side in ((60, "ahead of"), (-60, "behind")):
        found = row(case_of(served, now=lambda s=seconds: datetime.now(UTC) + timedelta(seconds=s)), "clock")
        assert (found["result"], found["fix"]) == ("warning", "sudo timedatectl set-ntp true")
        assert side in found["message"]


def test_a_schema_changed_by_hand_and_one_that_is_behind_are_told_apart(served: ServerProcess) -> None:
    def run(statement: str) -> None:
        async def execute() -> None:
            target = served.database
            connection = await asyncpg.connect(host=target.host, port=target.port, user=target.user, database="aitbc")
            await connection.execute(statement)
            await connection.close()

        asyncio.run(execute())

    run("CREATE TABLE trading.by_hand (id int)")
    by_hand = row(case_of(served), "migrations")
    assert by_hand["result"] == "failed" and "by_hand" in by_hand["message"] and "aitbc db check" in by_hand["fix"]
    run("DROP TABLE trading.by_hand")
    run("UPDATE gpu.alembic_version SET version_num = 'gpu_0000'")
    behind = row(case_of(served), "migrations")
    assert (behind["result"], behind["fix"]) == ("failed", "aitbc db migrate") and behind["message"].endswith("gpu")
    newest = next(head_of(part) for part in parts(MODULES) if part.name == "gpu")
    run(f"UPDATE gpu.alembic_version SET version_num = '{newest}'")
    assert row(case_of(served), "migrations")["result"] == "ok"


def test_a_miner_is_followed_from_its_enrolment_to_its_removal(served: ServerProcess) -> None:
    environ = {**ENVIRONMENT, "HOME": str(served.state.parent), "AITBC_STATE_DIR": str(served.state)}
    command = [sys.executable, "-m", "aitbc_cli.main", "miner", "enrol", "--name", "attic", "--kind", "embed", "--json"]
    told = json.loads(subprocess.run(command, env=environ, capture_output=True, check=True).stdout)
    found = row(case_of(served), "miner")
    assert found["check"] == "miner attic" and found["result"] == "warning"
    assert found["fix"] == "aitbc miner run --name attic" and "does not run" in found["message"]
    lock = served.state / "miners" / "attic" / "lock"
    with subprocess.Popen(["flock", "--no-fork", str(lock), "sleep", "60"]) as holder:
        for _ in range(1500):
            found = row(case_of(served), "miner")
            if "runs as process" in found["message"]:
                break
            time.sleep(0.02)
        holder.kill()
    assert f"{told['miner']} runs as process {holder.pid}, and is " in found["message"]
    admin(served).delete(f"/api/v1/gpu/miners/{told['miner']}")
    removed = row(case_of(served), "miner")
    assert removed["result"] == "failed" and "credentials.json; aitbc miner run --name attic" in removed["fix"]
    shutil.rmtree(served.state / "miners")


def test_a_server_that_hangs_is_named_with_its_process(served: ServerProcess) -> None:
    os.kill(served.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        rows = {each["check"]: each for each in examine(case_of(served), CHECKS)}
        assert time.monotonic() - started < 20
    finally:
        os.kill(served.pid, signal.SIGCONT)
    assert rows["server"]["result"] == "failed"
    assert rows["server"]["fix"].startswith(f"kill -9 {served.pid}; aitbc serve")
    assert rows["ready"]["fix"] == "aitbc doctor --only server"


# A server that tells what we want ------------------------------------------------------------------------------------


class Telling:
    """An HTTP server that answers each path with what a test gave it: status and JSON."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {"/healthz": (200, {"status": "ok"})}
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer, or say that there is no such thing."""
                status, told = answers.get(self.path.partition("?")[0], (404, {"detail": "No such thing."}))
                content = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def telling() -> Iterator[Telling]:
    """A server that tells what the test wants."""
    made = Telling()
    yield made
    made.close()


@pytest.fixture
def look(telling: Telling, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """One check against that server."""

    def one(name: str) -> dict[str, Any]:
        environ = {**ENVIRONMENT, "AITBC_STATE_DIR": str(tmp_path), "AITBC_API_KEY": new_key("live")}
        return row(Case(environ=environ, flags=Flags(url=telling.url), folder=tmp_path), name)

    return one


def page(*rows: Any) -> tuple[int, Any]:
    return 200, {"data": list(rows), "has_more": False, "next_cursor": None}


def test_another_program_at_the_url_is_recognised(telling: Telling, look: Callable[[str], dict[str, Any]]) -> None:
    assert look("server")["result"] == "ok"
    telling.answers["/healthz"] = (200, b"<html>")
    assert (look("server")["result"], look("server")["fix"]) == ("failed", "aitbc serve --port 0")
    telling.answers["/healthz"] = (421, {"detail": "This server has another name."})
    assert 'server.hosts = ["127.0.0.1"]' in look("server")["fix"]


def test_the_failing_parts_are_named_with_their_reasons(
    telling: Telling, look: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    for part, fix in (
        ("disk", f"du -xhd2 {tmp_path} | sort -h | tail"),
        ("database", "aitbc doctor --only database; aitbc serve --port "),
        ("draining", "aitbc serve --port "),
    ):
        checks = [{"name": part, "ok": False, "reason": "It is so."}]
        telling.answers["/readyz"] = (503, {"ready": False, "failing": [part], "checks": checks})
        found = look("ready")
        assert (found["result"], found["message"]) == ("failed", f"not ready: {part}: It is so.")
        assert found["fix"].startswith(fix)
    telling.answers["/readyz"] = (200, {"ready": True, "failing": []})
    assert look("ready")["result"] == "ok"


def test_a_server_of_another_version_is_a_warning(telling: Telling, look: Callable[[str], dict[str, Any]]) -> None:
    telling.answers["/version"] = (200, {"version": "9.9.9", "api": "v1", "commit": None})
    found = look("version")
    assert found["result"] == "warning" and "the server is 9.9.9" in found["message"] and "aitbc serve" in found["fix"]


def test_a_chain_that_stands_still_is_a_failure(telling: Telling, look: Callable[[str], dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    telling.answers["/api/v1/trading/blocks/head"] = (
        200,
        {"height": 7, "time": (now - timedelta(hours=1)).isoformat()},
    )
    telling.answers["/api/v1/trading/transactions"] = page({"at": (now - timedelta(minutes=5)).isoformat()})
    found = look("chain")
    assert found["result"] == "failed" and "after block 7" in found["message"] and found["fix"]
    telling.answers["/api/v1/trading/transactions"] = page({"at": (now - timedelta(hours=2)).isoformat()})
    assert look("chain")["result"] == "ok"


def test_a_drift_of_the_ledger_is_a_failure(telling: Telling, look: Callable[[str], dict[str, Any]]) -> None:
    telling.answers["/metrics"] = (200, b'# HELP x y\nx{a="b"} 1.0\naitbc_ledger_drift 3.0\n')
    assert (look("ledger")["result"], look("ledger")["fix"]) == ("failed", "aitbc ledger verify")
    telling.answers["/metrics"] = (200, b"aitbc_ledger_drift 0.0\n")
    assert look("ledger")["result"] == "ok"


def test_a_drift_that_the_server_did_not_measure_in_time_is_no_failure(
    telling: Telling, look: Callable[[str], dict[str, Any]]
) -> None:
    telling.answers["/metrics"] = (200, b"aitbc_queue_depth 0.0\n")
    found = look("ledger")
    assert (found["result"], found["fix"]) == ("skipped", "aitbc ledger verify")
    assert "did not measure it in time" in found["message"]


def test_a_dead_event_is_a_warning_with_its_replay(telling: Telling, look: Callable[[str], dict[str, Any]]) -> None:
    telling.answers["/api/v1/operations/events"] = page({"id": "evt_1", "kind": "job.settled", "last_error": "No."})
    found = look("events")
    assert (found["result"], found["fix"]) == ("warning", "aitbc events replay evt_1")
    assert "job.settled: No." in found["message"]


def test_work_that_nobody_does_is_a_warning(telling: Telling, look: Callable[[str], dict[str, Any]]) -> None:
    telling.answers["/api/v1/ai/jobs"] = page({"id": "job_1"})
    telling.answers["/api/v1/gpu/miners"] = page()
    assert (look("work")["result"], look("work")["fix"]) == ("warning", "aitbc miner run")
    telling.answers["/api/v1/gpu/miners"] = page({"id": "mnr_1"})
    assert look("work")["result"] == "ok"


def test_the_key_of_a_miner_buys_nothing(telling: Telling, look: Callable[[str], dict[str, Any]]) -> None:
    telling.answers["/api/v1/identity/keys/self"] = (200, {"kind": "miner", "scopes": [], "account": "acct_1"})
    assert look("key-scopes")["result"] == "warning"
    telling.answers["/api/v1/identity/keys/self"] = (
        200,
        {"kind": "live", "scopes": ["jobs:read"], "account": "acct_1"},
    )
    assert "jobs:create" in look("key-scopes")["message"]

"""The server as its users run it: it starts, says what stands in its way, keeps its data, and leaves nothing behind."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.server_process import ServerProcess, children_of, run_briefly
from tests.scale import only_in_full


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(server: ServerProcess, path: str, body: Any = None) -> Any:
    """An answer for the operator."""
    headers = {"Authorization": f"Bearer {server.admin_key}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(server.url + path, data, headers), timeout=30) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An installation in a folder whose name has a blank, for all tests of this file."""
    made = ServerProcess(tmp_path_factory.mktemp("installation") / "state of mind", free_port())
    yield made
    if made.is_alive:
        made.stop()


@pytest.fixture
def server(installation: ServerProcess) -> ServerProcess:
    """The installation, started, whatever the test before has done to it."""
    if not installation.is_alive:
        installation.start()
    return installation


def test_a_restart_keeps_accounts_keys_and_chain(server: ServerProcess) -> None:
    made = ask(server, "/api/v1/identity/accounts", {"name": "ann"})
    key, head = server.admin_key, ask(server, "/api/v1/trading/blocks")["data"][-1]["hash"]
    assert server.stop() == 0
    assert not (server.state / "server.json").exists()
    server.start()
    assert server.admin_key == key
    assert made["id"] in {account["id"] for account in ask(server, "/api/v1/identity/accounts")["data"]}
    assert ask(server, "/api/v1/trading/blocks")["data"][-1]["hash"] == head


def test_its_files_are_private(server: ServerProcess) -> None:
    assert server.state.stat().st_mode & 0o077 == 0
    for name in ("admin.key", "node.key", "secret.key", "server.json"):
        assert (server.state / name).stat().st_mode & 0o077 == 0, name


def test_it_loads_no_library_that_it_has_no_use_for(server: ServerProcess) -> None:
    server.stop()
    server.forked = False  # started as a program: what a forked one has mapped was its parent's
    try:
        server.start()
        loaded = Path(f"/proc/{server.pid}/maps").read_text()
    finally:
        server.stop()
        server.forked = True
    assert "asyncpg" in loaded
    for name in ("aiohttp", "pydantic", "numpy"):
        assert f"/{name}" not in loaded, name


@only_in_full
def test_the_folder_of_the_pages_leads_nowhere_else(server: ServerProcess) -> None:
    steps = (
        "..",
        "%2e%2e",
        "..%2f",
        "%252e%252e",
        "..%252f",
        "..%5c",
        "....//",
        "/etc/passwd",
        "docs.css/..",
        "pages.py",
    )
    ways = [f"/docs/{step}/{name}" for step in steps for name in ("openapi_pages.py", "admin.key", "")]
    ways += [f"/docs/{'a' * 5000}", "/docs/docs.css%00", "/docs/%00", "/docs/", "/docs/docs.css/"]
    for way in ways:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", way)
        answer = connection.getresponse()
        assert answer.status == (400 if "%00" in way else 404), way
        assert answer.getheader("content-type", "").startswith("application/problem+json"), way
        connection.close()


def test_a_killed_server_leaves_no_database_behind(server: ServerProcess) -> None:
    children = children_of(server.pid)
    assert children
    server.kill()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < end, "postgres lives on"
        time.sleep(0.05)


def test_a_stopped_server_ends_a_long_poll_and_itself_in_time(server: ServerProcess) -> None:
    job = submit(server)
    watch = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {server.admin_key}"]
    with subprocess.Popen(
        [*watch, f"{server.url}/api/v1/ai/jobs/{job}/wait?seconds=50"], stdout=subprocess.PIPE
    ) as poll:
        time.sleep(0.5)
        assert poll.poll() is None
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 30
        assert poll.communicate(timeout=30)[0] == b"200"


def submit(server: ServerProcess) -> str:
    """A job of the operator's that nobody will do."""
    account = ask(server, "/api/v1/identity/keys/self")["account"]
    post(server, "/api/v1/trading/deposits", {"account": account, "amount": "1"})
    job = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.01"}
    return str(post(server, "/api/v1/ai/jobs", job)["id"])


def post(server: ServerProcess, path: str, body: Any) -> Any:
    """A command of the operator's, under a key of its own."""
    headers = {"Authorization": f"Bearer {server.admin_key}", "Content-Type": "application/json"}
    headers["Idempotency-Key"] = path
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_a_second_server_on_the_same_state_names_the_first(server: ServerProcess) -> None:
    other = run_briefly(server.state, free_port())
    assert other.returncode == 78
    assert str(server.pid) in other.stderr
    assert json.loads((server.state / "server.json").read_text())["pid"] == server.pid


def test_a_taken_port_is_a_clear_refusal(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        refused = run_briefly(tmp_path / "state", holder.getsockname()[1])
    assert refused.returncode == 78
    assert str(os.getpid()) in refused.stderr


def test_an_open_bind_without_tls_is_refused(tmp_path: Path) -> None:
    refused = run_briefly(tmp_path / "state", free_port(), AITBC_SERVER__HOST="0.0.0.0")
    assert refused.returncode == 78
    assert "i_accept_plain_http" in refused.stderr


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    refused = run_briefly(tmp_path / "state", free_port(), AITBC_SERVER__PROT="1")
    assert refused.returncode == 78
    assert "AITBC_SERVER__PORT" in refused.stderr


def test_a_readable_secret_is_refused(server: ServerProcess) -> None:
    server.stop()
    (server.state / "secret.key").chmod(0o644)
    try:
        refused = run_briefly(server.state, free_port())
    finally:
        (server.state / "secret.key").chmod(0o600)
    assert refused.returncode == 78
    assert "chmod 600" in refused.stderr


def test_a_lost_admin_key_is_made_anew_and_the_old_one_still_counts(server: ServerProcess) -> None:
    old = server.admin_key
    server.stop()
    (server.state / "admin.key").unlink()
    server.start()
    assert server.admin_key != old
    assert ask(server, "/api/v1/identity/keys/self")["kind"] == "admin"


def test_a_stopped_database_answers_503_and_comes_back(server: ServerProcess) -> None:
    postmaster = next(
        pid for pid in children_of(server.pid) if b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(postmaster, signal.SIGSTOP)
    backends = children_of(postmaster)
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert b'"ok"' in urllib.request.urlopen(f"{server.url}/healthz", timeout=30).read()
        started = time.monotonic()
        while server.is_ready():
            assert time.monotonic() - started < 60
            time.sleep(0.1)
    finally:
        for pid in [postmaster, *backends]:
            os.kill(pid, signal.SIGCONT)
    end = time.monotonic() + 60
    while not server.is_ready():
        assert time.monotonic() < end
        time.sleep(0.1)


class OnASmallDisk(ServerProcess):
    """It answers; it would not call itself ready, since a disk as small as that is nearly full."""

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@only_in_full
@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts a small disk")
def test_a_start_on_a_full_disk_says_so_and_may_be_tried_again() -> None:
    disk = Path(tempfile.mkdtemp(prefix="aitbc-test-", dir="/tmp"))
    disk.chmod(0o755)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], check=False).returncode != 0:
        disk.rmdir()
        pytest.skip("may not mount a small disk here")
    try:
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 65_536) == 65_536:
                pass
        refused = run_briefly(disk / "state", free_port())
        assert refused.returncode == 6, "not 78, which no supervisor starts again"
        assert "No space left on device" in refused.stderr
        assert len(refused.stderr.splitlines()) <= 20
        assert "Traceback" not in refused.stderr
        filler.unlink()
        server = OnASmallDisk(disk / "state", free_port())
        server.start()
        assert server.stop() == 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
        disk.rmdir()

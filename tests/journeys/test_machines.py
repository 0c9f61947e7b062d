"""A module on a machine of its own: another state folder, another process, TLS between the two, and one PostgreSQL."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.server.cluster.peers import SERVICE_HEADER, Peer
from aitbc.server.cluster.service_token import Tokens
from aitbc.server.config.hosts import PeerHost
from aitbc.server.postgres.embedded import Address
from tests.chaos.forked import ForkedServer
from tests.chaos.server_process import ServerProcess
from tests.cli.miner.test_daemon import Market
from tests.journeys.test_places import until
from tests.postgres import owner_of, run_sql
from tests.scale import only_in_full
from tests.server.runtime.test_serve import ask, free_port

SECRET = "0c6fd1c1a3b0d9a1f6f0c6fd1c1a3b0d9a1f6f0c6fd1c1a3b0d9a1f6f01234567"


class Machine:
    """The machine with the module gpu: what `aitbc serve gpu` does there."""

    def __init__(self, state: Path, environment: dict[str, str]) -> None:
        self.state = state
        self.environment = {**os.environ, **environment, "AITBC_STATE_DIR": str(state)}
        self.process: ForkedServer | None = None

    def start(self) -> None:
        """Start it, without waiting."""
        self.process = ForkedServer({}, "gpu", self.environment, self.state / "server.log", self.state)

    def refusal(self, **changes: str) -> tuple[int, str]:
        """How it does not start with other settings: the exit code and the complaint."""
        environment = {name: value for name, value in (self.environment | changes).items() if value}
        said = self.state / "refused.log"
        said.unlink(missing_ok=True)
        code = ForkedServer({}, "gpu", environment, said, self.state).wait(30)
        return code, said.read_text()

    def said(self, event: str) -> int:
        """How often it said this."""
        return (self.state / "server.log").read_text().count(f'"event":"{event}"')

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)


class Installation:
    """Two machines: one with the gateway, ai and trading, and one with gpu, found at `gpu_url` where that is elsewhere."""

    def __init__(self, folder: Path, database: Target, gpu_url: str | None = None) -> None:
        self.folder = folder
        self.ca, certificate, key = certificates(folder)
        self.inner = {"main": free_port(), "gpu": free_port()}
        self.gpu_port = free_port()
        shared = {
            "AITBC_DATABASE__URL": f"postgresql://{database.user}@localhost:{database.port}/{database.database}?host={database.host}",
            "AITBC_MODULES__GPU__PLACE": "split",
            "AITBC_MODULES__GPU__PORT": str(self.gpu_port),
            "AITBC_LOG__LEVEL": "info",
        }
        for table, process in (("GATEWAY", "main"), ("MODULES__GPU", "gpu")):
            shared |= {
                f"AITBC_{table}__URL": f"https://127.0.0.1:{self.inner[process]}",
                f"AITBC_{table}__CA": str(self.ca),
                f"AITBC_{table}__INNER": f"127.0.0.1:{self.inner[process]}",
                f"AITBC_{table}__INNER_CERTIFICATE": str(certificate),
                f"AITBC_{table}__INNER_KEY": str(key),
            }
        if gpu_url is not None:
            shared["AITBC_MODULES__GPU__URL"] = gpu_url
        self.shared = shared
        self.main = ServerProcess(folder / "main" / "state", free_port(), **shared, **self.secret_of("main"))
        self.gpu = Machine(folder / "gpu", {**shared, **self.secret_of("gpu")})
        for state in (self.main.state, self.gpu.state):
            state.mkdir(parents=True, exist_ok=True)
        Key.load(self.main.state / "node.key", create=True)
        shutil.copy2(self.main.state / "node.key", self.gpu.state / "node.key")

    def another(self, name: str) -> Machine:
        """One more machine with gpu, on addresses of its own."""
        own = {
            "AITBC_MODULES__GPU__INNER": f"127.0.0.1:{free_port()}",
            "AITBC_MODULES__GPU__PORT": str(free_port()),
            **self.secret_of(name),
        }
        made = Machine(self.folder / name, {**self.shared, **own})
        made.state.mkdir()
        shutil.copy2(self.main.state / "node.key", made.state / "node.key")
        return made

    def secret_of(self, machine: str) -> dict[str, str]:
        """A machine's own copy of the file that all have."""
        path = self.folder / f"{machine}.secret"
        path.write_text(SECRET + "\n")
        path.chmod(0o600)
        return {"AITBC_SECRET_KEY_FILE": str(path)}

    def site(self, ca: Path | None = None) -> PeerHost:
        """Where gpu is."""
        return PeerHost(process="gpu", url=f"https://127.0.0.1:{self.inner['gpu']}", ca=ca or self.ca)

    def status(self, path: str) -> tuple[int, str | None]:
        """Status and Retry-After of an answer of the gateway to the operator."""
        headers = {"Authorization": f"Bearer {self.main.admin_key}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.main.url + path, None, headers), timeout=30
            ) as found:
                return found.status, None
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers.get("Retry-After")


def certificates(folder: Path, name: str = "ca") -> tuple[Path, Path, Path]:
    """A certificate authority of one's own, and a certificate for this machine with its key."""
    folder = folder / name
    folder.mkdir()
    ca, certificate, key = folder / "ca.pem", folder / "cert.pem", folder / "cert.key"
    new = "openssl req -x509 -newkey ed25519 -nodes -days 2 -addext"
    whose = "basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign -keyout ca.key -out ca.pem"
    ours = "subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE -keyout cert.key -out cert.pem -CA ca.pem -CAkey ca.key"
    for command in (f"{new} {whose} -subj /CN={name}.test", f"{new} {ours} -subj /CN=gpu.internal"):
        subprocess.run(command.split(), check=True, capture_output=True, cwd=folder)
    return ca, certificate, key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target]) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("machines"), new_database())
    installation.gpu.start()
    try:
        installation.main.start()
        yield installation
    finally:
        assert installation.gpu.stop() == 0
        assert installation.main.stop() == 0


def test_a_paid_job_is_done_though_gpu_lives_on_another_machine(made: Installation, tmp_path: Path) -> None:
    market = Market(made.main, tmp_path)
    miner = market.start(token=market.token())
    try:
        job = market.submit("echo hello")
        done = market.until_state(job, "succeeded")
        assert done["output"]["stdout"] == "hello\n"
        until(lambda: made.status(f"/api/v1/trading/receipts/{done['receipt']}")[0] == 200)
        assert ask(made.main, "/api/v1/trading/ledger/verify", {})["ok"] is True
        until(lambda: not ask(made.main, "/api/v1/operations/events?status=pending")["data"])
    finally:
        miner.terminate()
        assert miner.wait(60) == 0
    told = {row["module"]: row for row in ask(made.main, "/api/v1/operations/places")["data"]}
    assert made.gpu.process is not None
    assert (told["gpu"]["pid"], told["gpu"]["ports"]) == (made.gpu.process.pid, [made.gpu_port])
    assert told["ai"]["pid"] == made.main.pid
    assert not list(made.main.state.glob("run/*"))


def direct(made: Installation, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """An answer of the inner door itself."""
    context = ssl.create_default_context(cafile=made.ca)
    request = urllib.request.Request(f"https://127.0.0.1:{made.inner['gpu']}{path}", None, headers)
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


async def test_the_inner_door_of_another_machine_opens_to_a_token_for_it_and_to_nothing_else(
    made: Installation,
) -> None:
    key = {"Authorization": f"Bearer {made.main.admin_key}"}
    right = Tokens(SECRET.encode(), "main").issue("gpu")
    assert direct(made, "/api/v1/gpu/miners", {**key, SERVICE_HEADER: right})[0] == 200
    for token in ("", Tokens(SECRET.encode(), "main").issue("ai"), Tokens(b"guess", "main").issue("gpu"), right + "0"):
        for path in ("/api/v1/gpu/miners", "/gpu/v1/miners", "/version", "/internal/~process"):
            status, body = direct(made, path, {**key, SERVICE_HEADER: token})
            assert (status, json.loads(body)["code"]) == (401, "service_token_refused"), path
    assert direct(made, "/healthz", {"Host": "balancer.internal"})[0] == 200
    with socket.create_connection(("127.0.0.1", made.inner["gpu"]), 5) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/1.1 200")
    ours = Peer(made.site(), Tokens(SECRET.encode(), "main"))
    assert (await ours.process()).name == "gpu"
    await ours.close()
    stranger, _, _ = certificates(made.folder, "stranger")
    theirs = Peer(made.site(stranger), Tokens(SECRET.encode(), "main"))
    with pytest.raises(Unavailable):
        await theirs.process()
    await theirs.close()


def test_a_machine_that_is_gone_takes_its_own_paths_with_it_and_no_others(made: Installation) -> None:
    assert made.gpu.process is not None
    made.gpu.process.kill()
    made.gpu.process.wait()
    assert {made.status("/api/v1/gpu/miners") for _ in range(8)} == {(503, "1")}
    assert made.status("/api/v1/ai/jobs") == (200, None)
    until(lambda: made.status("/readyz")[0] == 503)  # it may have been asked a moment ago
    made.gpu.start()
    until(lambda: made.status("/api/v1/gpu/miners")[0] == 200)
    until(lambda: made.status("/readyz")[0] == 200)


def test_a_machine_with_another_secret_is_let_in_nowhere_and_says_why(made: Installation) -> None:
    assert made.gpu.stop() == 0
    path = made.folder / "gpu.secret"
    path.write_text("another\n")
    made.gpu.start()
    try:
        until(lambda: _reason(made) is not None and "secret_key" in str(_reason(made)))
        assert made.status("/api/v1/gpu/miners") == (503, "1")
    finally:
        path.write_text(SECRET + "\n")
        made.gpu.stop()
        made.gpu.start()
    until(lambda: made.status("/api/v1/gpu/miners")[0] == 200)


def _reason(made: Installation) -> Any:
    """Why gpu is not ready, as the gateway's process tells the operator."""
    time.sleep(0.2)
    request = urllib.request.Request(
        f"{made.main.url}/readyz", headers={"Authorization": f"Bearer {made.main.admin_key}"}
    )
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as answer:
        return {check["name"]: check.get("reason") for check in json.loads(answer.read())["checks"]}.get("gpu")
    return None


def free_ports() -> dict[str, str]:
    """Settings for a second process beside the one that runs."""
    return {"AITBC_MODULES__GPU__PORT": str(free_port()), "AITBC_MODULES__GPU__INNER": f"127.0.0.1:{free_port()}"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"AITBC_MODULES__GPU__INNER": "0.0.0.0:18443", "AITBC_MODULES__GPU__INNER_CERTIFICATE": ""}
            | {"AITBC_MODULES__GPU__INNER_KEY": ""},
            ("modules.gpu.inner", "without TLS", "modules.gpu.inner_certificate"),
        ),
        ({"AITBC_MODULES__GPU__INNER_KEY": ""}, ("modules.gpu.inner_key", "set both")),
        ({"AITBC_MODULES__GPU__INNER_KEY": "/nowhere.key"}, ("modules.gpu.inner_key", "cannot be read")),
        ({"AITBC_MODULES__GPU__INNER": ""}, ("modules.gpu.inner", "0.0.0.0:8443")),
        ({"AITBC_MODULES__GPU__URL": "http://gpu.internal"}, ("modules.gpu.url", "in the clear", "https://")),
        ({"AITBC_MODULES__GPU__PLACE": ""}, ("modules.gpu.place", "split")),
        ({"AITBC_GATEWAY__URL": ""}, ("gateway.url", "another machine")),
        ({"AITBC_GATEWAY__CA": "/nowhere.pem"}, ("gateway.ca", "/nowhere.pem")),
        ({"AITBC_DATABASE__URL": ""}, ("database.url", "embedded")),
        ({"AITBC_SECRET_KEY_FILE": ""}, ("secret_key", "secret_key_file")),
        ({"AITBC_MODULES__AI__PLACE": "split"}, ("modules.ai.url", "gpu")),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_mistake_in_the_settings_of_a_machine_ends_the_start_with_what_to_do(
    made: Installation, changes: dict[str, str], words: tuple[str, ...]
) -> None:
    code, complaint = made.gpu.refusal(**{**free_ports(), **changes})
    assert code == 78, complaint
    assert len(complaint.splitlines()) == 1
    assert all(word in complaint for word in words), complaint


@only_in_full
def test_a_machine_without_the_nodes_key_does_not_make_a_second_one(made: Installation) -> None:
    (made.gpu.state / "node.key").rename(made.gpu.state / "away")
    try:
        code, complaint = made.gpu.refusal(**free_ports())
    finally:
        (made.gpu.state / "away").rename(made.gpu.state / "node.key")
    assert (code, "copy node.key" in complaint) == (78, True), complaint


@pytest.fixture
def empty(cluster: Address) -> Target:
    """A database in which nobody has been yet."""
    name = f"empty_{os.getpid()}_{time.monotonic_ns()}"
    asyncio.run(run_sql(owner_of(cluster, "postgres"), f"CREATE DATABASE {name}"))
    return owner_of(cluster, name)


@only_in_full
def test_a_machine_that_starts_first_waits_for_the_main_one_says_so_and_works_then(
    tmp_path: Path, empty: Target
) -> None:
    made = Installation(tmp_path, empty)
    made.gpu.start()
    assert made.gpu.process is not None
    try:
        until(lambda: made.gpu.said("waiting_for_the_main_process") == 1)
        assert "the schema kernel is at nothing" in (made.gpu.state / "server.log").read_text()
        assert made.gpu.process.poll() is None
        made.main.start()
        until(lambda: made.status("/api/v1/gpu/miners")[0] == 200)
        assert made.gpu.said("main_process_found") == 1
    finally:
        stopped = made.gpu.stop()
        if made.main.is_alive:
            made.main.stop()
    assert stopped == 0


def test_a_machine_that_waits_ends_when_it_is_told_to(tmp_path: Path, empty: Target) -> None:
    made = Installation(tmp_path, empty)
    made.gpu.start()
    until(lambda: made.gpu.said("waiting_for_the_main_process") == 1)
    assert made.gpu.stop() == 128 + 15

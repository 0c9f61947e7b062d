"""Modules in processes and on ports of their own: the same work is done, and one that dies takes no other with it."""

import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.server.cluster.peers import Peer
from aitbc.server.cluster.service_token import Tokens
from aitbc.server.config.hosts import PeerHost
from aitbc.server.config.placement import LEGACY_COORDINATOR_PREFIX, LEGACY_PREFIX
from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.rounds import CHECKS, examine
from tests.chaos.server_process import ServerProcess, run_briefly
from tests.cli.forked_program import as_forked
from tests.cli.miner.test_daemon import Market
from tests.cli.tiny_server import Reply, answering
from tests.scale import only_in_full, scaled
from tests.server.runtime.test_serve import ask, free_port

MODULES = ("gpu", "ai", "trading", "marketplace", "governance", "monitoring", "hermes", "plugins")


class Installation:
    """A server with its modules in their places, and the ports that were chosen for them."""

    def __init__(self, folder: Path, places: dict[str, str], **more: str) -> None:
        self.ports = {name: free_port() for name in MODULES}
        chosen = {f"AITBC_MODULES__{name.upper()}__PLACE": place for name, place in places.items()}
        chosen |= {f"AITBC_MODULES__{name.upper()}__PORT": str(port) for name, port in self.ports.items()}
        self.server = ServerProcess(folder / "state", free_port(), **chosen, **more)

    def start(self) -> "Installation":
        self.server.start()
        return self

    def places(self) -> dict[str, Any]:
        """What the processes tell, by module."""
        return {row["module"]: row for row in ask(self.server, "/api/v1/operations/places")["data"]}

    def status(self, path: str, port: int | None = None) -> int:
        """The status of an answer to the operator."""
        url = f"http://127.0.0.1:{port or self.server.port}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.server.admin_key}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code


SHAPES: dict[str, dict[str, str]] = {
    "exposed": dict.fromkeys(MODULES, "exposed"),
    "gpu split": {"gpu": "split"},
    "gpu split, ai exposed": {"gpu": "split", "ai": "exposed"},
    "ai split": {"ai": "split"},
    "trading split": {"trading": "split"},
    "all split": dict.fromkeys(MODULES, "split"),
}


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation of one shape, for all the tests that want this one."""
    settings = {"AITBC_WEBHOOKS__ALLOW_PRIVATE": "true"}
    installation = Installation(tmp_path_factory.mktemp("places"), SHAPES[request.param], **settings).start()
    yield installation
    if installation.server.is_alive:
        installation.server.stop()


def placed(*shapes: str) -> pytest.MarkDecorator:
    """The test runs in an installation of each of these shapes."""
    return pytest.mark.parametrize("made", shapes, indirect=True, scope="module")


@placed(*scaled(["all split"], ["exposed", "gpu split", "ai split", "trading split", "all split"]))
def test_a_paid_job_is_done_wherever_the_modules_live(made: Installation, tmp_path: Path) -> None:
    market = Market(made.server, tmp_path)
    miner = market.start(token=market.token())
    try:
        asked = on_sale(market)
        job = market.submit("echo hello")
        done = market.until_state(job, "succeeded")
        assert done["output"]["stdout"] == "hello\n"
        until(lambda: made.status(f"/api/v1/trading/receipts/{done['receipt']}") == 200)  # paid right after the result
        receipt = ask(made.server, f"/api/v1/trading/receipts/{done['receipt']}")["receipt"]
        assert receipt["price"] == done["price"]
        assert (receipt["offer"], receipt["unit_price"]) == (asked["id"], "0.0002")
        verified = ask(made.server, "/api/v1/trading/ledger/verify", {})
        assert verified["ok"] is True, str(verified)
        until(lambda: not ask(made.server, "/api/v1/operations/events?status=pending")["data"])
    finally:
        miner.terminate()
        assert miner.wait(60) == 0


@placed("all split")
def test_monitoring_sees_every_process_from_wherever_it_lives(made: Installation) -> None:
    def states() -> dict[str, str]:
        return {one["name"]: one["state"] for one in ask(made.server, "/api/v1/monitoring/monitors")["data"]}

    parts = {f"{kind}/{name}" for kind in ("process", "module") for name in ("gpu", "ai", "trading")} | {"process/main"}
    until(lambda: parts <= states().keys() and {states()[part] for part in parts} == {"up"})
    assert "database/ai" not in states()  # that of another process is seen by it alone
    port = made.ports["monitoring"]
    assert (made.status("/dashboard", port), made.status("/health", port)) == (200, 200)
    samples = ask(made.server, "/api/v1/monitoring/forecast?figure=aitbc_ledger_drift")
    assert samples["hours"] == []
    done = ask(made.server, "/api/v1/monitoring/upkeep", {"action": "cleanup"})  # the main process does it
    assert done["result"]["removed"] >= 0


@placed("all split")
def test_orders_of_older_clients_reach_the_market_by_the_port_and_the_prefix_of_the_gpu_service(
    made: Installation,
) -> None:
    offer = {"type": "gpu_marketplace", "action": "offer", "provider_node_id": "n", "price_per_gpu": 0.1}
    for name, root in (
        ("by-port", f"http://127.0.0.1:{made.ports['gpu']}"),
        ("by-prefix", f"{made.server.url}/gpu"),
    ):
        heads = {"Authorization": f"Bearer {made.server.admin_key}", "Content-Type": "application/json"}
        body = json.dumps(offer | {"offer_id": name}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{root}/v1/transactions", body, heads), timeout=30) as done:
            assert json.loads(done.read()) == {"status": "success", "transaction_id": name}
        listing = urllib.request.Request(f"{root}/v1/transactions?order_id={name}", headers=heads)
        with urllib.request.urlopen(listing, timeout=30) as found:
            assert [one["id"] for one in json.loads(found.read())] == [name]
    assert made.status("/v1/transactions?order_id=by-port", made.ports["marketplace"]) == 200  # a path of its own there


def on_sale(market: Market) -> Any:
    """The offer of the market's miner, once it is found and quotes know of it."""
    (miner,) = market.until(lambda: market.ask("/api/v1/gpu/miners?status=online")["data"])
    offer = {"miner": miner["id"], "sells": "work", "kind": "command", "price": "0.0002"}
    made = market.ask("/api/v1/marketplace/offers", offer, once=miner["id"])
    found = f"/api/v1/marketplace/search?filter=miner+%3D+{miner['id']}"
    market.until(lambda: [one["id"] for one in market.ask(found)["data"]] == [made["id"]])
    wish = {"kind": "command", "input": {"program": "sh", "arguments": ["true"]}, "max_price": "1"}
    market.until(lambda: market.ask("/api/v1/ai/quotes", wish)["offers"])
    return made


def until(holds: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@placed("gpu split, ai exposed")
def test_each_port_answers_for_its_own_module(made: Installation) -> None:
    gpu, ai = made.ports["gpu"], made.ports["ai"]
    for path, wanted in {
        "/api/v1/gpu/miners": (200, 200, 404),
        "/api/v1/ai/jobs": (200, 404, 200),
        "/api/v1/trading/receipts": (200, 404, 404),
        "/api/v1/identity/accounts": (200, 404, 404),
        "/healthz": (200, 200, 200),
        "/readyz": (200, 200, 200),
        "/internal/gpu/miner": (404, 404, 404),
        "/api/v1/gpuu/miners": (404, 404, 404),
    }.items():
        assert (made.status(path), made.status(path, gpu), made.status(path, ai)) == wanted, path
    told = made.places()
    assert (told["gpu"]["process"], told["gpu"]["ports"]) == ("gpu", [gpu])
    environment = {**os.environ, "AITBC_STATE_DIR": str(made.server.state)}
    shown = as_forked("places", "--json", environment=environment, folder=made.server.state)
    assert {row["module"]: row for row in json.loads(shown.out)} == told
    assert (told["ai"]["process"], told["ai"]["ports"]) == ("main", [ai])
    assert told["gpu"]["pid"] != told["ai"]["pid"] == made.server.pid


@placed("gpu split, ai exposed")
def test_a_dead_module_answers_503_alone_and_comes_back(made: Installation) -> None:
    pid = made.places()["gpu"]["pid"]
    os.kill(pid, signal.SIGSTOP)  # so that it cannot be started again behind our back
    os.kill(pid, signal.SIGKILL)
    statuses = {made.status("/api/v1/gpu/miners") for _ in range(8)}
    assert statuses <= {503, 200}
    assert made.status("/api/v1/ai/jobs") == 200
    assert made.status("/healthz") == 200
    until(lambda: made.status("/api/v1/gpu/miners") == 200)
    until(lambda: made.status("/readyz") == 200)
    assert made.places()["gpu"]["pid"] != pid


@only_in_full
@placed("gpu split, ai exposed")
def test_the_end_of_the_main_process_ends_all_of_them(made: Installation) -> None:
    gpu = made.places()["gpu"]["pid"]
    assert made.server.stop() == 0
    assert not Path(f"/proc/{gpu}").exists()
    assert not list((made.server.state / "run").glob("*.sock"))
    made.server.start()
    until(lambda: made.places()["gpu"]["answers"])
    again = made.places()["gpu"]["pid"]
    made.server.kill()
    until(lambda: not Path(f"/proc/{again}").exists())
    made.server.start()
    until(lambda: made.status("/api/v1/gpu/miners") == 200)


@placed("gpu split, ai exposed")
async def test_an_internal_api_opens_to_a_token_for_this_process_only(made: Installation) -> None:
    secret = bytes.fromhex((made.server.state / "secret.key").read_text().strip())
    socket = made.server.state / "run" / "gpu.sock"
    assert socket.stat().st_mode & 0o077 == 0
    for tokens, name, wanted in (
        (Tokens(secret, "main"), "gpu", 200),
        (Tokens(secret, "main"), "ai", 401),
        (Tokens(b"guess", "main"), "gpu", 401),
    ):
        peer = Peer(PeerHost(process=name, socket=socket), tokens)
        if wanted == 200:
            assert (await peer.process()).name == "gpu"
        else:
            with pytest.raises(Unavailable):  # not the caller's fault: it must not take its own key for a bad one
                await peer.call("/internal/~process", b"")
        await peer.close()
    peer = Peer(PeerHost(process="gpu", socket=socket), Tokens(secret, "main"))
    assert [(await peer.call(path, b"{}"))[0] for path in ("/internal/ai/claim", "/internal/gpu/beat_all")] == [
        404,
        404,
    ]
    await peer.close()


def test_a_module_moves_by_one_line_and_keeps_its_data(tmp_path: Path) -> None:
    """Mounted, then split, and in full mounted again: the data and the old addresses stay."""
    port = free_port()
    account = None
    for places in ({}, {"trading": "split"}, *scaled((), ({},))):
        installation = Installation(tmp_path, places)
        installation.server.port, installation.server.url = port, f"http://127.0.0.1:{port}"
        installation.start()
        until(lambda: installation.status("/readyz") == 200)  # noqa: B023 - called at once
        if account is None:
            account = ask(installation.server, "/api/v1/identity/keys/self")["account"]
            request = urllib.request.Request(
                f"{installation.server.url}/api/v1/trading/deposits",
                json.dumps({"account": account, "amount": "3", "reason": "test"}).encode(),
                {
                    "Authorization": f"Bearer {installation.server.admin_key}",
                    "Content-Type": "application/json",
                    "Idempotency-Key": "once",
                },
            )
            urllib.request.urlopen(request, timeout=30).close()
        assert ask(installation.server, f"/api/v1/trading/accounts/{account}")["available"] == "3"
        assert installation.server.stop() == 0


def test_what_cannot_be_is_said_at_the_start(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "AITBC_STATE_DIR": str(tmp_path / "other"),
        "AITBC_MODULES__GPU__PLACE": "exposed",
        "AITBC_MODULES__AI__PLACE": "exposed",
        "AITBC_MODULES__GPU__PORT": "18101",
        "AITBC_MODULES__AI__PORT": "18101",
    }
    command = ["serve", "--port", "0"]
    ended = as_forked(*command, environment=environment, folder=tmp_path)
    assert ended.code == 78
    assert "18101" in ended.err
    assert "gpu and ai" in ended.err
    assert as_forked(*command, "hermes", environment=environment, folder=tmp_path).code == 78


def open_to_anybody(installation: Installation, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer of the gateway to a caller with these headers."""
    try:
        request = urllib.request.Request(installation.server.url + path, None, headers or {})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def test_older_clients_keep_the_gateways_endpoints_its_key_and_ports_without_one(tmp_path: Path) -> None:
    installation = Installation(
        tmp_path,
        {"gpu": "exposed"},
        API_GATEWAY_REQUIRE_AUTH="true",
        API_GATEWAY_KEY="sesame",
        AITBC_MODULES__GPU__TRUST="loopback",
    ).start()
    try:
        assert open_to_anybody(installation, "/health") == (200, {"status": "healthy", "service": "api-gateway"})
        status, services = open_to_anybody(installation, "/services")
        assert status == 200
        assert set(services) == {*(LEGACY_PREFIX[name] for name in MODULES), LEGACY_COORDINATOR_PREFIX}
        assert services["gpu"] == {"prefix": "/gpu", "url": f"{installation.server.url}/gpu"}
        status, told = open_to_anybody(installation, "/gpu/health")
        assert (status, "detail" in told) == (401, True)
        assert open_to_anybody(installation, "/gpu/health", {"Authorization": "Bearer wrong"})[0] == 403
        assert open_to_anybody(installation, "/gpu/health", {"Authorization": "Bearer sesame"})[0] not in (401, 403)
        assert installation.status("/api/v1/gpu/miners") == 200
        port = installation.ports["gpu"]
        assert (installation.places()["gpu"]["trusting"], installation.places()["ai"]["trusting"]) == ([port], [])
        log = (tmp_path / "server.log").read_text()
        assert log.count('"port_asks_no_key"') == 1
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AITBC_STATE_DIR": str(installation.server.state)}
        case = Case(environ=environ, folder=tmp_path, system_file=tmp_path / "none")
        (found,) = examine(case, [check for check in CHECKS if check.name == "ports"])
        assert found["result"] == "warning"
        assert f"port {port} (gpu)" in found["message"]
        assert 'modules.gpu.trust = "none"' in found["fix"]
    finally:
        assert installation.server.stop() == 0


@only_in_full
def test_a_second_main_process_with_split_modules_needs_a_state_folder_of_its_own(
    tmp_path: Path, new_database: Callable[[], Target]
) -> None:
    target = new_database()
    shared = {
        "AITBC_DATABASE_URL": f"postgresql://{target.user}@localhost:{target.port}/{target.database}?host={target.host}",
        "AITBC_MODULES__GPU__PLACE": "split",
        "AITBC_SECRET_KEY": "of the two replicas, " * 3,
    }
    first = ServerProcess(tmp_path / "state", free_port(), AITBC_MODULES__GPU__PORT=str(free_port()), **shared)
    first.start()
    try:
        more = {**shared, "AITBC_MODULES__GPU__PORT": str(free_port())}
        second = run_briefly(first.state, free_port(), **more)
        assert second.returncode == 78, second.stderr
        [complaint] = second.stderr.splitlines()
        assert f"pid {first.pid}" in complaint and str(first.state / "run" / "main.sock") in complaint
        assert "state_dir" in complaint
        assert first.is_ready()
        own = ServerProcess(tmp_path / "other" / "state", free_port(), **more)
        own.state.mkdir(parents=True, mode=0o700)
        shutil.copy2(first.state / "node.key", own.state / "node.key")
        own.start()
        try:
            assert first.is_ready() and own.is_ready()
        finally:
            assert own.stop() == 0
    finally:
        assert first.stop() == 0


@placed("all split")
def test_a_process_of_its_own_audits_whom_it_refuses(made: Installation) -> None:
    account = ask(made.server, "/api/v1/identity/accounts", {"name": "narrow"})["id"]
    narrow = {"name": "narrow", "account": account, "scopes": ["self:read"]}
    key = ask(made.server, "/api/v1/identity/keys", narrow)
    refused = []
    for path, port in (("/api/v1/ai/jobs", None), ("/api/v1/gpu/miners", made.ports["gpu"]), ("/ai/jobs", None)):
        url = f"http://127.0.0.1:{port or made.server.port}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key['secret']}"})
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=30)
        refused.append(refusal.value.code)
    assert refused == [403, 403, 403]

    def noted() -> set[str]:
        found = ask(made.server, "/api/v1/operations/audit?action=access.refuse")
        return {entry["object"] for entry in found["data"] if entry["key"] == key["id"]}

    until(lambda: noted() == {"jobs:read", "miners:read"})


@placed("all split")
def test_webhooks_are_sent_wherever_the_modules_live(made: Installation, tmp_path: Path) -> None:
    with answering(Reply(200)) as receiver:
        market = Market(made.server, tmp_path)
        miner = market.start(token=market.token())
        try:
            endpoint = market.ask("/api/v1/webhooks/endpoints", {"url": receiver.url})
            job = market.submit("echo hello")
            market.until_state(job, "succeeded")
            until(lambda: len(receiver.asked) > 0)
            (message,) = receiver.asked
            headers = {name.lower(): value for name, value in message.headers.items()}
            told = Webhook(endpoint["secret"]).verify(message.body, headers)
            assert (told["type"], told["data"]["job"]) == ("ai.job_succeeded", job)
            until(lambda: not ask(made.server, "/api/v1/operations/events?status=pending")["data"])
            assert len(receiver.asked) == 1
        finally:
            miner.terminate()
            miner.wait(60)

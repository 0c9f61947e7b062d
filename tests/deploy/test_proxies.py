"""nginx and HAProxy before two servers: what is shipped is accepted, agrees with the server's limits, and carries everything."""

import http.client
import json
import os
import re
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aitbc.app import MODULES
from aitbc.kernel.database.unit_of_work import Target
from aitbc.modules.ai.service.job_events import HEARTBEAT_SECONDS
from aitbc.server.asgi.boundary import Limits
from aitbc.server.config.settings import ServerSettings
from tests.chaos.server_process import ServerProcess
from tests.deploy.programs import DEPLOY, free_port, program, run
from tests.scale import only_in_full, scaled

HOST = "aitbc.example.org"
NGINX = (DEPLOY / "nginx/aitbc.conf").read_text()
HAPROXY = (DEPLOY / "haproxy/haproxy.cfg").read_text()
POLL_SECONDS_MAX = 60
"""What a caller may ask a long poll to wait."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for the host of the examples."""
    made = tmp_path_factory.mktemp("proxies")
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-keyout", made / "key.pem", "-out", made / "chain.pem", "-subj", f"/CN={HOST}"),
        *("-addext", f"subjectAltName=DNS:{HOST}"),
    )
    (made / "aitbc.pem").write_text((made / "chain.pem").read_text() + (made / "key.pem").read_text())
    return made


# What is shipped, with other places -----------------------------------------------------------------------------------


def nginx_files(folder: Path, port: int, upstreams: list[int]) -> Path:
    """The shipped file and a main one around it, for a port and servers of the test's own."""
    site = NGINX.replace("/etc/aitbc/", f"{folder}/")
    site = re.sub(r"(?m)^    listen \[::\].*\n", "", site).replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    site = site.replace("listen 80;", f"listen unix:{folder}/plain-{port};")
    servers = "".join(f"    server 127.0.0.1:{one} max_fails=1 fail_timeout=2s;\n" for one in upstreams)
    site = re.sub(r"(?m)(^    #? ?server 127.*\n)+", servers, site, count=1)
    site = re.sub(r"(?m)^    # server 127.*\n", "", site)
    (folder / "aitbc.conf").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    main = folder / "nginx.conf"
    main.write_text(
        f"{user} pid {folder}/nginx.pid; daemon off; error_log {folder}/nginx.log; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/aitbc.conf; }}\n"
    )
    return main


def haproxy_file(folder: Path, port: int, upstreams: list[int]) -> Path:
    """The shipped file, for a port and servers of the test's own."""
    text = HAPROXY.replace("/etc/haproxy/aitbc.pem", f"{folder}/aitbc.pem").replace(
        "bind :443", f"bind 127.0.0.1:{port}"
    )
    text = text.replace("bind :80", f"bind unix@{folder}/plain-{port}")
    text = re.sub(r"(?m)^    (user|group|log /dev|log global|option httplog).*\n", "", text)
    text = re.sub(r"maxconn \d+", "maxconn 500", text)  # a test may not open so many files
    servers = "".join(f"    server of{one} 127.0.0.1:{one} check\n" for one in upstreams)
    text = re.sub(r"(?m)^    server one .*\n", servers, text)
    made = folder / "haproxy.cfg"
    made.write_text(text)
    return made


def test_nginx_accepts_what_is_shipped(folder: Path) -> None:
    main = nginx_files(folder, free_port(), [8080])
    (folder / "aitbc.conf").write_text(NGINX.replace("/etc/aitbc/", f"{folder}/"))
    said = run("nginx", "-t", "-q", "-c", main)
    assert "warn" not in said, said


def test_nginx_accepts_a_second_server(folder: Path) -> None:
    main = nginx_files(folder, free_port(), [8080])
    (folder / "aitbc.conf").write_text(NGINX.replace("/etc/aitbc/", f"{folder}/").replace("# server 127", "server 127"))
    run("nginx", "-t", "-q", "-c", main)


def test_haproxy_accepts_what_is_shipped_and_a_second_server(folder: Path) -> None:
    for text in (HAPROXY, HAPROXY.replace("# server two", "server two")):
        made = folder / "shipped.cfg"
        made.write_text(text.replace("/etc/haproxy/aitbc.pem", f"{folder}/aitbc.pem"))
        said = run("haproxy", "-c", "-f", made)
        assert "warning" not in said.lower(), said


# The limits -----------------------------------------------------------------------------------------------------------


def found(pattern: str, text: str) -> int:
    """The number that a line says."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match, pattern
    return int(match[1])


def test_what_the_proxies_let_through_is_what_the_server_takes() -> None:
    (ai,) = (module.settings for module in MODULES if module.name == "ai" and module.settings is not None)
    largest: int = ai().artifact_bytes_max  # type: ignore[attr-defined]
    assert largest >= ServerSettings().max_body_bytes
    assert found(r"client_max_body_size (\d+)m;", NGINX) << 20 == largest
    assert found(r"content-length\) gt (\d+)", HAPROXY) == largest
    longest = Limits().header_bytes + Limits().uri_bytes
    assert found(r"tune.bufsize (\d+)", HAPROXY) - 1024 > longest
    assert 4 * (found(r"large_client_header_buffers 4 (\d+)k", NGINX) << 10) > longest


def test_nobody_is_cut_while_he_waits_on_purpose() -> None:
    for pattern in (r"proxy_read_timeout (\d+)s", r"proxy_send_timeout (\d+)s"):
        assert found(pattern, NGINX) > max(POLL_SECONDS_MAX, HEARTBEAT_SECONDS)
    for pattern in (r"timeout client (\d+)s", r"timeout server (\d+)s"):
        assert found(pattern, HAPROXY) > max(POLL_SECONDS_MAX, HEARTBEAT_SECONDS)


def test_idle_connections_are_closed_by_the_proxy_first_and_slow_heads_alike() -> None:
    server = ServerSettings()
    assert found(r"^    keepalive_timeout (\d+)s", NGINX) < server.idle_seconds
    assert found(r"timeout http-keep-alive (\d+)s", HAPROXY) < server.idle_seconds
    assert found(r"client_header_timeout (\d+)s", NGINX) == server.head_seconds
    assert found(r"timeout http-request (\d+)s", HAPROXY) == server.head_seconds
    assert found(r"client_body_timeout (\d+)s", NGINX) == server.body_seconds


# Running --------------------------------------------------------------------------------------------------------------


@dataclass
class ProxiedServers:
    """Two servers on one database, and a proxy before them."""

    port: int
    servers: list[ServerProcess]
    trusting: int
    """A port of the first server that takes callers from this machine without a key."""
    context: ssl.SSLContext
    behind: Callable[[list[int]], Any]
    """Another proxy of the same kind, before other ports."""

    @property
    def key(self) -> str:
        """The operator's."""
        return self.servers[0].admin_key

    def connect(self, port: int | None = None) -> http.client.HTTPSConnection:
        """A connection as a client elsewhere makes it: by the public name."""
        connection = http.client.HTTPSConnection(HOST, 443, timeout=15, context=self.context)
        raw = socket.create_connection(("127.0.0.1", port or self.port), timeout=15)
        connection.sock = self.context.wrap_socket(raw, server_hostname=HOST)
        return connection

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        connection = self.connect()
        given = {
            "Authorization": f"Bearer {self.key}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if method == "POST":
            given.setdefault("Idempotency-Key", uuid.uuid4().hex)
        if body is not None and not isinstance(body, bytes):
            body, given["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read

    def submit(self) -> str:
        """A job that nobody does."""
        account = json.loads(self.ask("GET", "/api/v1/identity/keys/self")[2])["account"]
        self.ask("POST", "/api/v1/trading/deposits", {"account": account, "amount": "1"})
        job = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.01"}
        status, _, text = self.ask("POST", "/api/v1/ai/jobs", job)
        assert status == 201, text
        return str(json.loads(text)["id"])


@pytest.fixture(scope="module")
def replicas(new_database: Callable[[], Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two servers on one database and one state folder, and the port of the first that trusts this machine."""
    target = new_database()
    url = f"postgresql://{target.user}@localhost:{target.port}/{target.database}?host={target.host}"
    state, trusting = tmp_path_factory.mktemp("replicas") / "state", free_port()
    settings = {"AITBC_DATABASE_URL": url, "AITBC_SERVER__HOSTS": HOST, "AITBC_SECRET_KEY": "of the two replicas, " * 3}
    trust = {
        "AITBC_MODULES__GPU__PLACE": "exposed",
        "AITBC_MODULES__GPU__PORT": str(trusting),
        "AITBC_MODULES__GPU__TRUST": "loopback",
    }
    servers = [ServerProcess(state, free_port(), **settings, **more) for more in (trust, {})]
    for server in servers:
        server.start()
    yield servers, trusting
    for server in servers:
        if server.is_alive:
            server.stop()


@contextmanager
def started(kind: str, folder: Path, upstreams: list[int]) -> Iterator[int]:
    """The proxy, and the port it listens on."""
    port = free_port()
    own = folder / f"{kind}-{port}"
    own.mkdir()
    for name in ("chain.pem", "key.pem", "aitbc.pem"):
        (own / name).write_text((folder / name).read_text())
    if kind == "nginx":
        command: list[str | Path] = [program(kind), "-c", nginx_files(own, port, upstreams)]
    else:
        command = [program(kind), "-db", "-f", haproxy_file(own, port, upstreams)]
    with (own / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert process.poll() is None and time.monotonic() < end, (own / "said").read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", params=scaled(["nginx"], ["nginx", "haproxy"]))
def site(request: pytest.FixtureRequest, folder: Path, replicas: Any) -> Iterator[ProxiedServers]:
    """Everything running."""
    program(request.param)
    servers, trusting = replicas
    context = ssl.create_default_context(cafile=folder / "chain.pem")

    def behind(ports: list[int]) -> Any:
        return started(request.param, folder, ports)

    with started(request.param, folder, [server.port for server in servers]) as port:
        yield ProxiedServers(port, servers, trusting, context, behind)


def test_a_request_and_its_answer_pass_unchanged(site: ProxiedServers) -> None:
    status, headers, text = site.ask("GET", "/readyz", X_Request_Id="mine-1")
    assert (status, json.loads(text)["ready"]) == (200, True)
    assert headers["x-request-id"] == "mine-1"
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert "content-encoding" not in headers
    assert site.ask("GET", "/api/v1/ai/jobs?limit=1")[0] == 200
    status, _, text = site.ask("GET", "/api/v1//ai/../ai/jobs")
    assert (status, json.loads(text)["code"]) == (404, "not_found")
    assert site.ask("GET", "/readyz", X_Padding="x" * 7000)[0] == 200


def test_both_servers_answer(site: ProxiedServers) -> None:
    for _ in range(12):
        assert site.ask("GET", "/api/v1/identity/keys/self")[0] == 200
    for server in site.servers:
        told = (server.state.parent / "server.log").read_text()
        assert "error" not in told, told[-2000:]


def test_a_stream_arrives_while_it_goes_on(site: ProxiedServers) -> None:
    connection = site.connect()
    job = site.submit()
    connection.request("GET", f"/api/v1/ai/jobs/{job}/events", headers={"Authorization": f"Bearer {site.key}"})
    began = time.monotonic()
    answer = connection.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    first = b""
    while b"\n\n" not in first:
        first += answer.read1(1000)
    assert b"event: state" in first
    site.ask("POST", f"/api/v1/ai/jobs/{job}/cancel")
    rest = answer.read()
    assert b"canceled" in rest
    assert time.monotonic() - began < 30
    connection.close()


def test_a_long_poll_waits_and_is_answered(site: ProxiedServers) -> None:
    job, began = site.submit(), time.monotonic()
    assert site.ask("GET", f"/api/v1/ai/jobs/{job}/wait?seconds=3")[0] == 200
    assert 2.5 < time.monotonic() - began < 30
    site.ask("POST", f"/api/v1/ai/jobs/{job}/cancel")


def test_an_upload_larger_than_any_buffer_passes_and_one_too_large_does_not(site: ProxiedServers) -> None:
    content = os.urandom(5 << 20)
    status, _, text = site.ask("POST", "/api/v1/ai/artifacts", content, Content_Type="application/octet-stream")
    assert status == 201, text
    artifact = json.loads(text)["id"]
    assert site.ask("GET", f"/api/v1/ai/artifacts/{artifact}")[2] == content
    connection = site.connect()
    connection.putrequest("POST", "/api/v1/ai/artifacts")
    connection.putheader("Content-Length", str((64 << 20) + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    status, _, text = site.ask("POST", "/api/v1/ai/jobs", {"padding": "x" * (1 << 20)})
    assert (status, json.loads(text)["code"]) == (413, "body_too_large")


def test_another_host_is_refused_by_the_server(site: ProxiedServers) -> None:
    status, _, text = site.ask("GET", "/readyz", Host="other.example.org")
    assert (status, json.loads(text)["code"]) == (421, "misdirected_host")


def test_figures_are_for_this_machine_alone(site: ProxiedServers) -> None:
    assert site.ask("GET", "/metrics")[0] == 404


def test_who_comes_through_the_proxy_is_not_from_this_machine(site: ProxiedServers) -> None:
    direct = http.client.HTTPConnection("127.0.0.1", site.trusting, timeout=30)
    direct.request("GET", "/api/v1/gpu/miners")
    assert direct.getresponse().status == 200
    with site.behind([site.trusting]) as port:
        for extra in ({}, {"X-Forwarded-For": ""}, {"Connection": "close, x-forwarded-for"}):
            connection = site.connect(port)
            connection.request("GET", "/api/v1/gpu/miners", headers=extra)
            assert connection.getresponse().status == 401, extra


@pytest.mark.skipif(os.geteuid() != 0, reason="nginx takes another user only when root starts it")
def test_a_bare_proxy_of_another_user_is_not_from_this_machine(
    replicas: tuple[list[ServerProcess], int], folder: Path
) -> None:
    """`proxy_pass` and nothing else: a loopback Host, no mark. Only its user tells it from a program."""
    _, trusting = replicas
    port, bare = free_port(), folder / "bare"
    bare.mkdir()
    temporary = "".join(
        f"{kind}_temp_path {bare}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (bare / "nginx.conf").write_text(
        f"pid {bare}/nginx.pid; daemon off; error_log {bare}/nginx.log; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};\n"
        f"location / {{ proxy_pass http://127.0.0.1:{trusting}; }} }} }}\n"
    )
    nginx = subprocess.Popen([program("nginx"), "-c", bare / "nginx.conf"])
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        for host in ("127.0.0.1", "localhost"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/api/v1/gpu/miners", headers={"Host": f"{host}:{port}"})
            assert connection.getresponse().status == 401, host
        direct = http.client.HTTPConnection("127.0.0.1", trusting, timeout=30)
        direct.request("GET", "/api/v1/gpu/miners")
        assert direct.getresponse().status == 200
    finally:
        nginx.terminate()
        nginx.wait(30)


@only_in_full
def test_http_2_is_spoken(site: ProxiedServers) -> None:
    to = ["--resolve", f"{HOST}:{site.port}:127.0.0.1", f"https://{HOST}:{site.port}/readyz"]
    command = [program("curl"), "-sk", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", *to]
    told = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert told.stdout == "2 200"


class Upgrading(socketserver.BaseRequestHandler):
    """A server that is well, and turns a connection into one of another protocol where that is asked: it echoes."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4096) or b"\r\n\r\n"
        if b"upgrade: websocket" not in head.lower():
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        self.request.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while said := self.request.recv(4096):
            self.request.sendall(said)


def test_a_connection_can_become_a_websocket(site: ProxiedServers) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upgrading) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with site.behind([server.server_address[1]]) as port:
            connection = site.connect(port).sock
            connection.sendall(
                f"GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert b" 101 " in connection.recv(4096)
            for said in (b"one", b"two"):
                connection.sendall(said)
                assert connection.recv(100) == said
            connection.close()
        server.shutdown()


def test_a_server_that_stops_is_missed_by_nobody(site: ProxiedServers) -> None:
    seen = []
    for number in range(60):
        if number == 10:
            os.kill(site.servers[1].pid, 15)
        seen.append(site.ask("GET", "/api/v1/identity/keys/self")[0])
        time.sleep(0.02)
    assert set(seen) == {200}
    end = time.monotonic() + 60
    while site.servers[1].is_alive:
        assert time.monotonic() < end
        time.sleep(0.05)
    site.servers[1].start()

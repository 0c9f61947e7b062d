"""The server as a process: drain, slow clients, plain HTTP refused, taken ports, and loop lag."""

import asyncio
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.primitives.port_owner import process_on_port
from aitbc.server.config.listeners import (
    Listener,
    PlainHttpRefused,
    PortTaken,
    bind,
    close,
    tls_context,
)
from aitbc.server.config.settings import ServerSettings
from tests.chaos.forked import Forked
from tests.server.runtime import small_server


class Running:
    """A small server as a process of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        name = uuid.uuid4().hex
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        environment = {"PATH": os.environ["PATH"]}
        given = options | {"folder": str(folder)}
        self.process = Forked(small_server.start, given, environment=environment, out=self._out, err=self._err)

    def until_started(self) -> "Running":
        end = time.monotonic() + 30
        while b"server_started" not in self._out.read_bytes():
            assert self.process.poll() is None and time.monotonic() < end, self.complaint
            time.sleep(0.02)
        return self

    @property
    def lines(self) -> list[bytes]:
        return self._out.read_bytes().splitlines(keepends=True)

    @property
    def complaint(self) -> str:
        return self._err.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def port(self) -> int:
        (started,) = (event for event in self.events if event["event"] == "server_started")
        return int(started["addresses"][0].rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, path: str, connection: socket.socket | None = None) -> bytes:
        """One request and its whole answer; on a connection of its own unless given one that stays open."""
        if connection is not None:
            send(connection, path)
            return read_answer(connection)
        with self.connect() as own:
            send(own, path, "Connection: close\r\n")
            return read_all(own)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self, within: float = 30) -> int:
        return self.process.wait(within)

    @property
    def has_cleaned_up(self) -> bool:
        return (self.folder / "cleaned").exists()


def send(connection: socket.socket, path: str, headers: str = "") -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())


def read_answer(connection: socket.socket) -> bytes:
    """One answer that says its length; the connection stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    (length,) = (int(line[15:]) for line in head.splitlines() if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return bytes(received)


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Running]:
    server = Running(folder, **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(30)


# Draining ------------------------------------------------------------------------------------------------------------


def test_a_first_signal_lets_everything_end_well_and_exits_with_0(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.until_started()
        under_way = {path: server.connect() for path in ("/slow?seconds=1", "/poll", "/stream", "/")}
        for path, connection in under_way.items():
            send(connection, path)
        assert read_answer(under_way["/"]).endswith(b"hello")
        port = server.port
        time.sleep(0.2)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        answers = {path: read_all(connection) for path, connection in under_way.items()}
        assert answers["/slow?seconds=1"].endswith(b"done")
        assert b"connection: close" in answers["/slow?seconds=1"]
        assert answers["/poll"].endswith(b"nothing yet")
        assert answers["/stream"].endswith(b"event: bye\n\n\r\n0\r\n\r\n")
        assert answers["/"] == b""
        assert server.ended() == 0
        assert time.monotonic() - started < 20
        assert server.has_cleaned_up
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        names = [event["event"] for event in server.events]
        assert names.count("request_answered") == 4
        assert names[-1] == "server_stopped"


def test_no_request_is_dropped_when_a_signal_comes_under_load(tmp_path: Path) -> None:
    async def client(port: int, outcome: list[str]) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            with suppress(ConnectionResetError):
                while True:
                    writer.write(b"GET /slow?seconds=0.01 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
                    outcome.append("answered" if b" 200 " in head else "dropped")
                    await reader.readexactly(4)
                    if b"connection: close" in head:
                        break
            writer.close()

    async def load(server: Running) -> list[str]:
        outcome: list[str] = []
        clients = [asyncio.create_task(client(server.port, outcome)) for _ in range(30)]
        await asyncio.sleep(0.7)
        server.signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*clients), 60)
        return outcome

    with running(tmp_path) as server:
        outcome = asyncio.run(load(server.until_started()))
        assert server.ended() == 0
    assert outcome.count("answered") > 100
    assert outcome.count("dropped") == 0


def test_a_request_that_does_not_end_is_cut_when_the_drain_is_over(tmp_path: Path) -> None:
    with running(tmp_path, settings={"drain_seconds": 1}) as server:
        server.until_started()
        with server.connect() as connection:
            send(connection, "/slow?seconds=60")
            time.sleep(0.2)
            started = time.monotonic()
            server.signal(signal.SIGINT)
            assert server.ended() == 0
            assert 0.9 < time.monotonic() - started < 30
            assert server.has_cleaned_up


def test_a_second_signal_stops_at_once_and_still_cleans_up(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.until_started()
        with server.connect() as connection:
            send(connection, "/slow?seconds=60")
            time.sleep(0.2)
            server.signal(signal.SIGTERM)
            time.sleep(0.5)
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.ended() == 128 + signal.SIGTERM
            assert time.monotonic() - started < 30
            assert server.has_cleaned_up


def test_a_signal_during_the_start_is_obeyed(tmp_path: Path) -> None:
    with running(tmp_path, start_seconds=1.5) as server:
        while not _catches_sigterm(server):
            time.sleep(0.05)
        time.sleep(0.5)
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
        assert server.has_cleaned_up
    with running(tmp_path, start_seconds=60) as server:
        while not _catches_sigterm(server):
            time.sleep(0.05)
        server.signal(signal.SIGTERM)
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        assert server.ended() == 128 + signal.SIGTERM


def _catches_sigterm(server: Running) -> bool:
    status = (Path("/proc") / str(server.process.pid) / "status").read_text()
    (caught,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_a_clean_up_that_hangs_does_not_hold_the_process(tmp_path: Path) -> None:
    with running(tmp_path, stop_seconds=60, settings={"drain_seconds": 1}) as server:
        server.until_started()
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.ended() == 1
        assert time.monotonic() - started < 30
        assert "clean_up_overran" in [event["event"] for event in server.events]


def test_a_clean_up_that_fails_shows_in_the_exit_code(tmp_path: Path) -> None:
    with running(tmp_path, stop_fails=True) as server:
        server.until_started().signal(signal.SIGTERM)
        assert server.ended() == 1
        assert "RuntimeError" in str(server.events)


def test_an_application_that_does_not_start_ends_the_process_with_1(tmp_path: Path) -> None:
    with running(tmp_path, start_fails=True) as server:
        assert server.ended() == 1
        assert server.events[-1]["event"] == "server_not_started"


def test_systemd_hears_of_start_life_and_end(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(30)
        with running(tmp_path, notify=address) as server:
            server.until_started()
            heard = [listener.recv(100) for _ in range(3)]
            assert b"READY=1" in heard
            assert b"WATCHDOG=1" in heard
            server.signal(signal.SIGTERM)
            while b"STOPPING=1" not in heard:
                heard.append(listener.recv(100))
            assert server.ended() == 0


# Hostile and slow clients --------------------------------------------------------------------------------------------


def test_a_client_that_dribbles_the_head_of_a_request_is_cut(tmp_path: Path) -> None:
    with running(tmp_path, settings={"head_seconds": 0.6}) as server:
        server.until_started()
        first, second, silent = server.connect(), server.connect(), server.connect()
        assert server.ask("/", second).endswith(b"hello")
        started = time.monotonic()
        first.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - started < 1.5:
                first.sendall(b"X")
                second.sendall(b"\r\n")
                time.sleep(0.05)
        for slow in (first, second):
            slow.settimeout(30)
            with suppress(ConnectionResetError):
                assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert read_all(silent) == b""
        assert time.monotonic() - started < 20
        assert server.ask("/").endswith(b"hello")


def test_a_head_without_end_and_bytes_that_are_no_http_are_refused_as_problems(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.until_started()
        for sent, status, code in (
            (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, b"431", "headers_too_large"),
            (b"GET /" + b"a" * 70_000, b"431", "headers_too_large"),
            (b"\x16\x03\x01 hello\r\n\r\n", b"400", "malformed"),
            (b"GET / HTTP/1.1\r\nA B: c\r\n\r\n", b"400", "malformed"),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400", "malformed"),
        ):
            with server.connect() as connection:
                connection.sendall(sent)
                head, _, body = read_all(connection).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 " + status)
                assert b"content-type: application/problem+json" in head
                problem = json.loads(body)
                assert (problem["code"], problem["status"]) == (code, int(status))
                assert problem["request_id"].encode() in head
        with server.connect() as connection:
            send(connection, "/", "Connection: Upgrade\r\nUpgrade: websocket\r\n")
            assert b" 200 " in read_answer(connection)
        assert server.ask("/").endswith(b"hello")
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
        assert [line for line in server.events if line["event"] == "library_log"] == []


def test_rubbish_behind_a_request_does_not_forge_its_answer(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.until_started().connect() as connection:
        connection.sendall(b"GET /slow?seconds=0.5 HTTP/1.1\r\nHost: x\r\n\r\n\x00rubbish\r\n\r\n")
        assert read_all(connection) == b""


def test_four_hundred_idle_connections_and_a_frozen_reader_hinder_nobody(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
    with running(tmp_path) as server:
        server.until_started()
        idle = [server.connect() for _ in range(400)]
        for connection in idle[:200]:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        before = _memory_of(server)
        stalled = [server.connect() for _ in range(200)]
        for connection in stalled:
            send(connection, "/stream?bytes=10000")
        time.sleep(2)
        seconds = []
        for _ in range(100):
            started = time.perf_counter()
            assert server.ask("/").endswith(b"hello")
            seconds.append(time.perf_counter() - started)
        assert sorted(seconds)[98] < 1  # what waits for one of the others would wait for ever
        assert _memory_of(server) - before < 20 * 1024  # KiB
        for connection in (*idle, *stalled):
            connection.close()


def _memory_of(server: Running) -> int:
    status = (Path("/proc") / str(server.process.pid) / "status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def test_the_log_has_one_valid_line_for_each_request_and_no_secret(tmp_path: Path) -> None:
    with running(tmp_path, secrets=["canary-in-settings"]) as server:
        server.until_started()
        with server.connect() as connection:
            for number in range(50):
                send(connection, f"/?key=canary-{number}", f"Authorization: Bearer canary-{number}\r\n")
                assert read_answer(connection).endswith(b"hello")
        server.ask("/canary-in-settings")
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
    answered = [event for event in server.events if event["event"] == "request_answered"]
    assert len(answered) == 51
    assert b"canary" not in b"".join(server.lines)


# Listening -----------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_named_together_with_its_holder(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        port = server.until_started().port
        with pytest.raises(PortTaken) as caught:
            bind([Listener(name="gateway", port=port)], ServerSettings())
        assert caught.value.exit_code == 78
        assert f"port {port} is taken by python" in caught.value.message
        assert f"(pid {server.process.pid})" in caught.value.message
        with running(tmp_path, settings={"port": port}) as second:
            assert second.ended() == 78
            assert second.complaint.count("\n") == 1
    assert process_on_port(port) is None


def test_when_one_address_fails_none_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as finder:
            free = finder.getsockname()[1]
        with pytest.raises(PortTaken):
            bind([Listener(name="a", port=free), Listener(name="b", port=taken)], ServerSettings())
        assert process_on_port(free) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_is_refused_without_tls(host: str) -> None:
    with pytest.raises(PlainHttpRefused) as caught:
        bind([Listener(name="gateway", host=host)], ServerSettings())
    assert caught.value.exit_code == 78
    assert "server.i_accept_plain_http = true" in caught.value.message
    assert "server.tls_certificate" in caught.value.message
    close(bind([Listener(name="gateway", host=host)], ServerSettings(i_accept_plain_http=True)))


def test_loopback_needs_no_tls_and_an_unknown_host_is_explained() -> None:
    close(
        bind(
            [Listener(name="a", host=host) for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost")], ServerSettings()
        )
    )
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(ConfigError, match="address of this machine"):
            bind([Listener(name="a", host=host)], ServerSettings(i_accept_plain_http=True))


def test_a_refused_door_ends_the_process_with_78(tmp_path: Path) -> None:
    with running(tmp_path, settings={"host": "0.0.0.0"}) as server:
        assert server.ended() == 78


def test_a_unix_socket_is_private_and_replaces_only_what_a_dead_server_left(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with running(tmp_path, path=str(path)) as server:
        server.until_started()
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            send(connection, "/")
            assert read_answer(connection).endswith(b"hello")
        with pytest.raises(PortTaken, match="another server"):
            bind([Listener(name="unix", path=path)], ServerSettings())
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        bind([Listener(name="unix", path=path)], ServerSettings())
    with pytest.raises(ConfigError, match="107 bytes"):
        bind([Listener(name="unix", path=tmp_path / ("x" * 200))], ServerSettings())


def test_of_those_who_want_a_dead_servers_socket_at_one_time_one_gets_it(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{number}.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        ready = threading.Barrier(6)

        def wanted(path: Path = path, ready: threading.Barrier = ready) -> socket.socket | None:
            ready.wait(30)
            with suppress(PortTaken):
                return bind([Listener(name="internal API of main", path=path)], ServerSettings())[0]
            return None

        with ThreadPoolExecutor(6) as several:
            got = [one for one in [each.result() for each in [several.submit(wanted) for _ in range(6)]] if one]
        assert len(got) == 1
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
        got[0].close()


def test_tls_is_served_from_files_and_wrong_ones_are_explained(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    settings = {"tls_certificate": certificate, "tls_key": key, "host": "0.0.0.0"}
    with running(tmp_path, settings=settings) as server:
        server.until_started()
        context = ssl.create_default_context(cafile=str(certificate))
        with context.wrap_socket(server.connect(), server_hostname="localhost") as connection:
            assert connection.version() in ("TLSv1.2", "TLSv1.3")
            assert server.ask("/", connection).endswith(b"hello")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning):  # noqa: PT030
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError), server.connect() as plain:
            old.wrap_socket(plain)

    def refusal(**changes: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            tls_context(structs.replace(ServerSettings(tls_certificate=certificate, tls_key=key), **changes))
        return caught.value.message

    assert "cannot be read" in refusal(tls_key=tmp_path / "gone.pem")
    assert "no pair" in refusal(tls_certificate=key)
    key.chmod(0o644)
    assert f"chmod 600 {key}" in refusal()


# Loop lag ------------------------------------------------------------------------------------------------------------


def test_a_process_that_was_stopped_knows_it_when_it_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.until_started()
        with server.connect() as connection:
            assert float(server.ask("/pause", connection).rpartition(b"\r\n\r\n")[2]) == 0
            server.signal(signal.SIGSTOP)
            time.sleep(1.6)
            server.signal(signal.SIGCONT)
            assert float(server.ask("/pause", connection).rpartition(b"\r\n\r\n")[2]) > 1.2
            server.ask("/freeze?seconds=1.4", connection)
            time.sleep(0.3)
            assert float(server.ask("/pause", connection).rpartition(b"\r\n\r\n")[2]) > 2.4
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
        assert [event["event"] for event in server.events].count("loop_resumed") == 2


async def test_a_pause_counts_while_it_lasts_and_is_forgotten_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("aitbc.kernel.primitives.loop_lag.elapsed", lambda: now)
    loop_lag = LoopLag()
    now += 0.2
    loop_lag.tick()
    assert loop_lag.lag_seconds == pytest.approx(0.1)
    assert loop_lag.recent_pause() == 0
    now += 120
    assert loop_lag.loop_frozen_seconds == pytest.approx(119.9)
    assert loop_lag.recent_pause() == pytest.approx(119.9)
    loop_lag.tick()
    assert loop_lag.recent_pause(60) == pytest.approx(119.9)
    assert loop_lag.frozen_seconds_total == pytest.approx(119.9)
    for _ in range(610):
        now += 0.1
        loop_lag.tick()
    assert loop_lag.recent_pause(60) == 0
    assert loop_lag.recent_pause(600) == pytest.approx(119.9)


# Bodies of requests that are answered before their end ----------------------------------------------------------------


def test_a_request_that_is_answered_before_its_body_ends_gets_that_answer_alone(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.until_started()
        size = 3_000_000
        with server.connect() as connection:
            for framing in (f"Content-Length: {size}\r\n", "Transfer-Encoding: chunked\r\n"):
                connection.sendall(f"POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n".encode())
                first = read_answer(connection)
                piece = b"x" * 100_000
                if framing.startswith("T"):
                    piece = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
                for _ in range(size // 100_000):
                    connection.sendall(piece)
                if framing.startswith("T"):
                    connection.sendall(b"0\r\n\r\n")
                again = server.ask("/", connection)
                assert (first[:15], again[:15]) == (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK")
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert not [event for event in server.events if event["event"] == "request_unreadable"]


def test_a_body_that_nobody_reads_is_not_taken_for_ever(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.until_started().connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        assert read_answer(connection).startswith(b"HTTP/1.1 200 OK")
        sent, piece = 0, b"x" * 1_000_000
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            while sent < 200_000_000:
                connection.sendall(piece)
                sent += len(piece)
        assert sent >= 64 * 1024 * 1024, "the largest upload that may be refused before it is read"

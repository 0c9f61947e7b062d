"""HAProxy before two processes of one split module: their inner doors, with TLS, take what it brings as if there were one."""

import itertools
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.cli.miner.test_daemon import Market
from tests.deploy.programs import DEPLOY, free_port, program, run
from tests.journeys.test_machines import Installation, Machine
from tests.journeys.test_places import until
from tests.scale import only_in_full, scaled
from tests.server.runtime.test_serve import ask

SHIPPED = (DEPLOY / "haproxy/inner.cfg").read_text()
ASKED = '"path":"/api/v1/gpu/miners"'

PATIENCE = 45.0


class Balanced:
    """An installation whose module gpu runs on two machines behind a load balancer."""

    def __init__(self, folder: Path, database: Target, mode: str) -> None:
        self.folder = folder
        self.mode = mode
        self.port = free_port()
        self.made = Installation(folder, database, f"https://127.0.0.1:{self.port}")
        self.machines = [self.made.gpu, self.made.another("gpu-two")]

    def configuration(self) -> Path:
        """The shipped file for addresses of the test's own; with `tcp` it passes TLS through."""
        pem = self.folder / "inner.pem"
        pem.write_text("".join((self.folder / "ca" / part).read_text() for part in ("cert.pem", "cert.key")))
        text = SHIPPED.replace("bind :8443", f"bind 127.0.0.1:{self.port}").replace("/etc/haproxy/inner.pem", str(pem))
        text = text.replace("/etc/aitbc/ca.pem", str(self.made.ca))
        text = re.sub(r"(?m)^    (user|group|log /dev|log global|option httplog).*\n", "", text)
        text = re.sub(r"maxconn \d+", "maxconn 500", text)  # a test may not open so many files
        for name, number, machine in zip(("one", "two"), (1, 2), self.machines, strict=True):
            text = text.replace(
                f"server {name} 10.0.0.{number}:8443",
                f"server {name} {machine.environment['AITBC_MODULES__GPU__INNER']}",
            )
        if self.mode == "tcp":
            text = (
                text.replace("mode http", "mode tcp")
                .replace(f" ssl crt {pem}", "")
                .replace("ssl verify", "check-ssl verify")
            )
            text = re.sub(r"(?m)^    (retry-on|timeout http).*\n", "", text)
        path = self.folder / "inner.cfg"
        path.write_text(text)
        return path

    def start(self) -> "subprocess.Popen[bytes]":
        """Everything, the balancer last; gives its process."""
        with (self.folder / "said").open("wb") as said:
            balancer = subprocess.Popen(
                [program("haproxy"), "-db", "-f", self.configuration()], stdout=said, stderr=said
            )
        for machine in self.machines:
            machine.start()
        self.made.main.start()
        return balancer

    def stop(self, balancer: "subprocess.Popen[bytes]") -> None:
        """All of it."""
        if self.made.main.is_alive:
            self.made.main.stop()
        for machine in self.machines:
            if machine.process is not None and machine.process.poll() is None:
                machine.stop()
        balancer.terminate()
        balancer.wait(30)

    def answered(self, machine: Machine) -> int:
        """How many of the test's own requests a machine has answered."""
        return (machine.state / "server.log").read_text().count(ASKED)


@pytest.fixture(scope="module", params=scaled(["http"], ["http", "tcp"]))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target]
) -> Iterator[Balanced]:
    """Everything running."""
    program("haproxy")
    made = Balanced(tmp_path_factory.mktemp("balanced"), new_database(), request.param)
    balancer = made.start()
    try:
        yield made
    finally:
        made.stop(balancer)


def test_what_is_shipped_is_accepted(tmp_path: Path) -> None:
    key = ("-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.pem")
    run("openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=ca", *key)
    (tmp_path / "inner.pem").write_text((tmp_path / "ca.pem").read_text() + (tmp_path / "ca.key").read_text())
    shipped = tmp_path / "inner.cfg"
    text = SHIPPED.replace("/etc/aitbc/ca.pem", str(tmp_path / "ca.pem"))
    shipped.write_text(text.replace("/etc/haproxy/inner.pem", str(tmp_path / "inner.pem")))
    assert "warning" not in run("haproxy", "-c", "-f", shipped).lower()


@only_in_full
def test_a_paid_job_is_done_by_a_module_behind_a_balancer(site: Balanced, tmp_path: Path) -> None:
    market = Market(site.made.main, tmp_path)
    miner = market.start(token=market.token())
    try:
        for number in range(4):
            done = market.until_state(market.submit(f"echo {number}"), "succeeded")
            assert done["output"]["stdout"] == f"{number}\n"
        until(lambda: ask(site.made.main, "/api/v1/trading/ledger/verify", {})["ok"] is True)
        until(lambda: not ask(site.made.main, "/api/v1/operations/events?status=pending")["data"])
    finally:
        miner.terminate()
        assert miner.wait(60) == 0


@only_in_full
def test_both_processes_are_asked_and_one_that_goes_is_missed_by_nobody_for_long(site: Balanced) -> None:
    def burst(wanted: int = 16) -> set[int]:
        """So many requests at one time: connections are kept, and those of one moment go to both."""
        ready = [socket.create_connection(("127.0.0.1", site.made.main.port), 5) for _ in range(wanted)]
        head = f"GET /api/v1/gpu/miners HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {site.made.main.admin_key}"
        for one in ready:
            one.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        answers = [b"".join(iter(lambda one=one: one.recv(65536), b"")) for one in ready]  # type: ignore[misc]
        for one in ready:
            one.close()
        return {int(answer.split(b" ", 2)[1]) for answer in answers}

    # More and more at one time, until there are more than connections that are kept to one of them.
    more = itertools.cycle(range(16, 257, 16))
    until(lambda: burst(next(more)) == {200} and all(site.answered(machine) for machine in site.machines), PATIENCE)
    second = site.machines[1]
    assert second.process is not None
    second.process.kill()
    second.process.wait()
    end = time.monotonic() + 60
    while burst() != {200}:  # what was under way there is 503, and then nothing is
        assert time.monotonic() < end
    assert {next(iter(burst())) for _ in range(5)} == {200}
    before, starts = site.answered(second), second.said("server_started")
    second.start()
    until(lambda: second.said("server_started") > starts, PATIENCE)
    until(lambda: burst(next(more)) == {200} and site.answered(second) > before, PATIENCE)

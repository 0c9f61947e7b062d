"""Machines of bookers: the real program, a real server, a real miner and containers of a real podman."""

import asyncio
import fcntl
import http.client
import json
import os
import pty
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aitbc_cli.exits import INTERRUPTED, REFUSED
from tests.chaos.server_process import ServerProcess
from tests.cli.forked_program import as_forked
from tests.cli.miner.fake_nvml import FakeNvml
from tests.cli.miner.test_containers import Podman, gone_containers, podman
from tests.cli.miner.test_daemon import Market, server
from tests.cli.program import AITBC, Ended, as_program, surroundings
from tests.scale import only_in_full

__all__ = ["podman", "server"]
pytestmark = pytest.mark.skipif(
    shutil.which("podman") is None or os.getuid() != 0, reason="needs podman and root: apt-get install -y podman runc"
)


UUID = f"GPU-6a1f0c22-0000-4000-8000-{os.getpid():012x}"


class Rented(Market):
    """A market whose miner gives machines, and its GPU, which the same account has booked."""

    def __init__(self, server: ServerProcess, folder: Path, podman: Podman) -> None:
        super().__init__(server, folder)
        self.owner = Market(server, folder)
        self.offer = self.booking = ""
        self.kinds = {"container": podman.options(disk_bytes=64 << 20, processes=100)}
        self.environment = surroundings(folder, AITBC_URL=server.url, AITBC_API_KEY=self.key)

    def book(self) -> str:
        """A booking of the miner, which it knows of."""
        if not self.offer:
            [miner] = self.owner.ask("/api/v1/gpu/miners?status=online")["data"]
            for_sale = {"miner": miner["id"], "sells": "device", "price": "0.1"}
            self.offer = self.owner.ask("/api/v1/marketplace/offers", for_sale, once=secrets.token_hex(8))["id"]
        wanted = {"offer": self.offer, "duration_seconds": 3600, "max_price": "1"}
        path = "/api/v1/marketplace/bookings"
        booking = str(self.until(lambda: self.ask(path, wanted, once=secrets.token_hex(8)))["id"])
        self.until(lambda: self.machine(booking)["usable"])
        return booking

    def ask(self, path: str, body: Any = None, *, once: str | None = None, method: str | None = None) -> Any:
        """The answer; what a refusal says is shown where a test fails by it."""
        try:
            return super().ask(path, body, once=once, method=method)
        except urllib.error.HTTPError as error:
            print(path, error.read().decode())
            raise

    def machine(self, booking: str) -> Any:
        """What the booking gives of a machine."""
        return self.ask(f"/api/v1/gpu/bookings/{booking}/machine")

    def end(self, booking: str) -> None:
        """End a booking."""
        self.ask(f"/api/v1/marketplace/bookings/{booking}/end", method="POST")

    def does(self, *words: str) -> Ended:
        """The command line."""
        return as_forked(*words, environment=self.environment, folder=self.folder)


@contextmanager
def cdi() -> Iterator[None]:
    """A CDI file whose only device is a harmless one: another name of /dev/null."""
    folder = Path("/var/run/cdi")
    folder.mkdir(exist_ok=True)
    file = folder / f"aitbc-machines-{os.getpid()}.json"
    node = {"path": "/dev/aitbc-gpu", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3}
    device = {"name": UUID, "containerEdits": {"deviceNodes": [node]}}
    file.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [device]}))
    yield
    file.unlink()


@pytest.fixture(scope="module")
def rented(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, podman: Podman) -> Iterator[Rented]:
    with pytest.MonkeyPatch.context() as patch, cdi():
        yield from _rented(server, tmp_path_factory.mktemp("rented"), podman, patch)


def _rented(server: ServerProcess, folder: Path, podman: Podman, patch: pytest.MonkeyPatch) -> Iterator[Rented]:
    (folder / "lib").mkdir()
    gpus = FakeNvml(folder / "lib", patch)
    gpus.show(gpus.module.device(0, uuid=UUID))
    made = Rented(server, folder, podman)
    made.owner.start(token=made.owner.token(), kinds=made.kinds, slots=1, forked=False)
    made.owner.until(lambda: made.owner.ask("/api/v1/gpu/miners?status=online")["data"])
    yield made
    made.owner.close()


class Typed:
    """The program at a terminal of its own."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self.terminal, other = pty.openpty()
        self._process = subprocess.Popen(
            [AITBC, *words], env=environment, stdin=other, stdout=other, stderr=other, start_new_session=True
        )
        os.close(other)
        self.said = b""

    def types(self, line: str) -> None:
        """Type a line."""
        os.write(self.terminal, line.encode() + b"\n")

    def until(self, what: bytes) -> None:
        """Read until something was shown since the last time."""
        end = time.monotonic() + 40
        while what not in self.said:
            assert time.monotonic() < end, self.said
            if select.select([self.terminal], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self.terminal, 4096)
                except OSError:
                    raise AssertionError(self.said) from None
        self.said = self.said.partition(what)[2]

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size, as a window does."""
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process.send_signal(signal.SIGWINCH)

    def ends(self) -> int:
        """The exit code."""
        code = self._process.wait(40)
        os.close(self.terminal)
        return code


@pytest.fixture
def booking(rented: Rented) -> str:
    """The booking of the miner that there is, or a new one."""
    rented.booking = rented.booking or rented.book()
    return rented.booking


def test_a_booker_runs_commands_with_the_gpu_and_files_go_in_and_out(rented: Rented, booking: str) -> None:
    line = "echo hi; echo no >&2; pwd; id -u; ls /dev/aitbc-gpu; touch /x; exit 7"
    told = rented.does("booking", "shell", booking, "--", "/bin/sh", "-c", line)
    assert (told.code, told.out) == (7, "hi\n/disk\n65534\n/dev/aitbc-gpu\n"), (told, rented.log())
    assert told.err.startswith("no\n") and "Read-only" in told.err
    piped = as_program(*("booking", "shell", booking, "--", "/bin/cat"), environment=rented.environment, input="in\n")
    assert (piped.code, piped.out) == (0, "in\n")
    content = secrets.token_bytes(300_000)
    (rented.folder / "tree" / "sub").mkdir(parents=True)
    (rented.folder / "tree" / "sub" / "data").write_bytes(content)
    assert rented.does("booking", "cp", "tree", f"{booking}:/disk/").code == 0
    assert rented.does("booking", "cp", "tree/sub/data", f"{booking}:other").code == 0
    assert rented.does("booking", "shell", booking, "--", "wc", "-c", "tree/sub/data", "other").out.count("300000") == 2
    assert rented.does("booking", "cp", f"{booking}:tree", "back").code == 0
    assert (rented.folder / "back" / "sub" / "data").read_bytes() == content
    missing = rented.does("booking", "cp", f"{booking}:/disk/none", ".")
    assert missing.code == 1 and "No such file" in missing.err, missing
    assert not list(rented.folder.glob(".aitbc-cp-*"))
    assert rented.machine(booking)["running"]


def test_a_terminal_is_resized_interrupted_and_ends_with_its_exit_code(rented: Rented, booking: str) -> None:
    typed = Typed(rented.environment, "booking", "shell", booking)
    typed.until(b"$ ")
    typed.resize(41, 133)
    typed.types("sh -c 'echo $((40 + 2)); sleep 1000'")
    typed.until(b"42")
    time.sleep(0.5)  # it may not sleep yet
    os.write(typed.terminal, b"\x03")
    typed.types("stty size")
    typed.until(b"41 133")
    typed.types("exit 5")
    assert typed.ends() == 5


def test_a_port_is_forwarded_also_after_a_restart_of_the_server(rented: Rented, booking: str) -> None:
    serving = "setsid sh -c 'while true; do echo pong | nc -l -p 8888; done' >/dev/null 2>&1 &"
    assert rented.does("booking", "shell", booking, "--", "/bin/sh", "-c", serving).code == 0
    with subprocess.Popen(
        [AITBC, "booking", "shell", booking, "--forward", "0:8888", "--no-shell"],
        env=rented.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as forwarding:
        assert forwarding.stderr is not None
        port = int(re.findall(r":([0-9]+) ", forwarding.stderr.readline())[0])
        try:
            rented.until(lambda: _asked(port) == b"pong\n")
            rented.server.kill()
            rented.server.start()
            rented.until(lambda: _asked(port) == b"pong\n", 120)
        finally:
            forwarding.send_signal(signal.SIGINT)
            assert forwarding.wait(40) == INTERRUPTED


def _asked(port: int) -> bytes:
    with socket.create_connection(
        ("127.0.0.1", port), timeout=10
    ) as connection:  # one may hang on the server that was killed
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(100)


async def _spoken(rented: Rented, booking: str, *command: str) -> tuple[aiohttp.ClientSession, Any]:
    """A connection to a command, by hand."""
    wanted = {"purpose": "shell", "command": command}
    made = await asyncio.to_thread(
        rented.ask, f"/api/v1/gpu/bookings/{booking}/sessions", wanted, once=secrets.token_hex(8)
    )
    session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {rented.key}"})
    return session, await session.ws_connect(rented.server.url + made["path"], max_msg_size=1 << 20)


@only_in_full
def test_a_full_disk_stops_the_machine_and_who_makes_room_goes_on(rented: Rented, booking: str) -> None:
    line = "dd if=/dev/zero of=/disk/big bs=1048576 count=80; touch /disk/kept; sleep 1000"
    full = rented.does("booking", "shell", booking, "--", "/bin/sh", "-c", line)
    assert full.code not in (0, INTERRUPTED), full
    rented.until(lambda: "disk_full" in rented.owner.log())
    mended = rented.does("booking", "shell", booking, "--", "/bin/sh", "-c", "ls /disk; rm /disk/big")
    assert (mended.code, mended.out.split()) == (0, ["big", "kept"]), (mended, rented.owner.log())
    told = rented.does("booking", "shell", booking, "--", "/bin/sh", "-c", "sleep 3; rm kept; ls /disk")
    assert (told.code, told.out) == (0, ""), (told, rented.owner.log())


def test_a_slow_reader_slows_the_machine_down_and_a_huge_message_ends_its_connection_only(
    rented: Rented, booking: str
) -> None:
    size = 60 << 20

    async def slow() -> int:
        session, line = await _spoken(rented, booking, "dd", "if=/dev/zero", "bs=65536", f"count={size >> 16}")
        async with session, line:
            before = memory_of(rented.server.pid)
            await asyncio.sleep(3)  # it is not read: what it sends waits where it is
            assert memory_of(rented.server.pid) < before + (40 << 20)
            read = 0
            while (message := await line.receive()).type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                if message.type is aiohttp.WSMsgType.BINARY and message.data[:1] == b"\x01":
                    read += len(message.data) - 1
            return read

    async def huge() -> int:
        session, line = await _spoken(rented, booking, "cat")
        async with session, line:
            await line.receive()
            await line.send_bytes(b"x" * 200_000)
            while (await line.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
            return int(line.close_code or 0)

    assert asyncio.run(slow()) == size
    assert asyncio.run(huge()) == 1009
    assert rented.does("booking", "shell", booking, "--", "echo", "fine").out == "fine\n"


def memory_of(pid: int) -> int:
    """What a process holds, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_nobody_but_the_payer_comes_in(rented: Rented, booking: str, server: ServerProcess) -> None:
    wanted = {"purpose": "shell"}
    path = f"/api/v1/gpu/bookings/{booking}/sessions"
    made = rented.ask(path, wanted, once=secrets.token_hex(8))

    def status(key: str, path: str) -> int:
        headers = {"Authorization": f"Bearer {key}", "Upgrade": "websocket", "Connection": "Upgrade"}
        headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=40)
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status

    stranger = Market(server, rented.folder)
    for key in (rented.owner.key, stranger.key, server.admin_key):
        assert status(key, made["path"]) == 404
    assert status("aitbc_live_none", made["path"]) == 401
    miner_end = made["path"].replace("/client", "/miner")
    assert status(rented.key, miner_end) == 403  # a person's key works for no miner
    for other in (rented.owner, stranger):
        with pytest.raises(urllib.error.HTTPError) as refused:
            other.ask(path, wanted, once=secrets.token_hex(8))
        assert refused.value.code == 404


def test_a_killed_miner_takes_the_machine_along_and_its_disk_is_there_when_it_is_back(
    rented: Rented, booking: str, podman: Podman
) -> None:
    assert rented.does("booking", "shell", booking, "--", "/bin/sh", "-c", "echo kept > /disk/kept").code == 0
    [container] = podman.containers
    assert container
    miner = rented.owner.miners[-1]
    miner.kill()
    miner.wait()
    rented.until(lambda: podman.call("ps", "-q") == "")  # none runs, though nobody could remove it
    rented.owner.start(kinds=rented.kinds, slots=1, forked=False)
    rented.until(lambda: rented.machine(booking)["usable"])
    told = rented.does("booking", "shell", booking, "--", "cat", "/disk/kept")
    assert told.out == "kept\n", (told, rented.log())


def test_the_machine_ends_with_its_booking_and_its_disk_is_wiped(rented: Rented, booking: str, podman: Podman) -> None:
    kept = rented.folder / "rig" / "machine" / booking
    assert rented.does("booking", "shell", booking, "--", "touch", "kept").code == 0
    rented.booking = ""
    assert (kept / "work" / "kept").exists()
    with subprocess.Popen(
        [AITBC, "booking", "shell", booking, "--", "/bin/sh", "-c", "echo begun; sleep 1000"],
        env=rented.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == "begun\n"
        rented.end(booking)
        code, complaint = running.wait(40), running.stderr.read()
        assert code == REFUSED, (code, complaint, rented.log())
        assert "the time of the booking is over" in complaint
    rented.until(lambda: not kept.exists())
    assert gone_containers(podman)
    over = rented.does("booking", "shell", booking)
    assert over.code == REFUSED, over
    assert rented.machine(booking)["used_seconds"] > 0
    again = rented.book()
    told = rented.does("booking", "shell", again, "--", "ls", "/disk")
    assert (told.code, told.out) == (0, ""), (told, rented.log())
    rented.end(again)

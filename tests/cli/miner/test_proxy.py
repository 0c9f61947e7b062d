"""A proxy that answers for a server: the miner takes nothing for the server's word but what the server wrote."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner import client as miner_client
from aitbc_cli.miner.client import MinerClient, Refused, Unreachable
from tests.chaos.server_process import ServerProcess
from tests.cli.miner.test_daemon import Market
from tests.cli.tiny_server import Reply, answering, problem, told
from tests.scale import scaled
from tests.server.runtime.test_serve import free_port

FOREIGN = {
    "JSON 404": told({"error": "no route", "code": "not_found", "detail": "no upstream"}, 404),
    "JSON 403": told({"message": "Forbidden"}, 403),
    "JSON 401": told({"type": "about:blank", "status": 401, "code": "unauthenticated", "detail": "sign in"}, 401),
    "JSON 200": told({"ok": True}),
    "a list": told([]),
    "302": Reply(302, b"", {"Location": "http://127.0.0.1:1/login"}),
    "HTML 200": Reply(200, b"<html>Be right back.</html>"),
    "nothing 200": Reply(200, b""),
    "nothing 404": Reply(404, b""),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_the_server_did_not_write_is_waited_out(name: str) -> None:
    async def ask(*, is_upload: bool) -> None:
        client = MinerClient(server.url)
        try:
            upload, poll = partial(client.upload, "att_1", Path(__file__)), partial(client.call, "POST", "/gpu/polls")
            with pytest.raises(Unreachable):
                await (upload() if is_upload else poll(expects={"leases": list}))
        finally:
            await client.close()

    with answering(FOREIGN[name]) as server:
        asyncio.run(ask(is_upload=False))
        asyncio.run(ask(is_upload=True))
        assert len(server.asked) == 2


def test_the_servers_own_refusal_is_definite() -> None:
    async def ask() -> Refused:
        client = MinerClient(server.url)
        try:
            with pytest.raises(Refused) as refused:
                await client.call_until_answered("POST", "/x", {}, expects={"kept": int})
            return refused.value
        finally:
            await client.close()

    with answering([FOREIGN["JSON 404"], FOREIGN["302"], problem(409, "lease_lost")]) as server:
        miner_client.BACKOFF_SECONDS_MAX, before = 0.01, miner_client.BACKOFF_SECONDS_MAX
        try:
            refused = asyncio.run(ask())
        finally:
            miner_client.BACKOFF_SECONDS_MAX = before
        assert (refused.status, refused.code, len(server.asked)) == (409, "lease_lost", 3)


class Proxy(ThreadingHTTPServer):
    """Passes requests on, or answers in the server's place."""

    daemon_threads = True
    instead: Reply | None = None
    loses_leases = False
    """Whether the next answer with leases is lost on the way: the connection ends in its place."""
    lost: bytes = b""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Passing(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        instead = self.server.instead
        if instead is not None:
            self.answer(instead.status, instead.body, dict(instead.headers))
            return
        onward = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            onward.request(self.command, self.path, content or None, dict(self.headers))
            answer = onward.getresponse()
            body = answer.read()
            if self.server.loses_leases and self.path.endswith("/polls") and b'"attempt"' in body:
                self.server.loses_leases, self.server.lost, self.close_connection = False, body, True
                return
            self.answer(answer.status, body, {"Content-Type": answer.getheader("Content-Type", "")})
        except OSError:
            self.close_connection = True
        finally:
            onward.close()

    do_POST = do_PUT = do_GET  # noqa: N815 - names of the standard library

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def market(tmp_path: Path) -> Iterator[tuple[Market, Proxy]]:
    """A server behind a proxy, with quick heartbeats."""
    server = ServerProcess(tmp_path / "state", free_port(), AITBC_GPU__HEARTBEAT_SECONDS="1")
    server.start()
    proxy = Proxy(server.port)
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    (tmp_path / "miners").mkdir()
    made = Market(server, tmp_path / "miners")
    yield made, proxy
    made.close()
    proxy.shutdown()
    proxy.server_close()
    server.stop()


def test_a_miner_outlives_whatever_a_proxy_answers_and_keeps_its_job(market: tuple[Market, Proxy]) -> None:
    rig, proxy = market
    kinds = scaled(["JSON 404", "JSON 200", "302"], list(FOREIGN))
    miner = rig.start(token=rig.token(), url=proxy.url)
    job = rig.submit(f"sleep {len(kinds)}; echo done")
    rig.until_state(job, "running")
    for name in kinds:
        proxy.instead = FOREIGN[name]
        time.sleep(1)
        assert miner.poll() is None, rig.log()
    proxy.instead = None
    done = rig.until_state(job, "succeeded")
    assert (len(done["history"]), done["fault"]) == (1, "none"), json.dumps(done)
    proxy.loses_leases = True
    again = rig.until_state(rig.submit("echo again"), "succeeded")
    assert (len(again["history"]), again["attempts"]) == (1, 0), "a lease that never arrived is given again, at no cost"
    assert again["id"].encode() in proxy.lost

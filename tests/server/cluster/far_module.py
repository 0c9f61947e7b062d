"""A gateway and a module in processes of their own, for the tests of forwarding.

The module is a plain application that says what reached it; it notes in files beside its socket what a test asks about later.
"""

import asyncio
import gzip
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.telemetry import logs
from aitbc.kernel.telemetry.logs import LogSettings
from aitbc.server.asgi.access_log import AccessLog
from aitbc.server.asgi.boundary import Boundary, Limits
from aitbc.server.cluster.gateway import Gateway
from aitbc.server.cluster.peers import Peer
from aitbc.server.cluster.service_token import Tokens
from aitbc.server.config.hosts import PeerHost
from aitbc.server.config.listeners import Listener, bind, contexts
from aitbc.server.config.settings import ServerSettings
from aitbc.server.runtime.uvicorn_server import Signals, run, serve

PREFIX = "/api/v1/gpu/"
UPLOAD_BYTES = {"upload": 1 << 30, "parcel": 1 << 20, "unread": 1 << 20}


class FarModule:
    """Answers by the last word of the path."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def note(self, name: str, text: str) -> None:
        """Something that outlives the request."""
        with (self.notes / name).open("a") as file:
            file.write(text + "\n")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for moment in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{moment}.complete"})
            return
        word: str = scope["path"].removeprefix(PREFIX).strip("/")
        answer: Any = getattr(self, f"{scope['type']}_{word}", None)
        if answer is None:
            raise NotFound
        await answer(scope, receive, send)

    async def answer(self, send: Any, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
        await send({"type": "http.response.body", "body": body})

    async def http_healthz(self, scope: Any, receive: Any, send: Any) -> None:
        await self.answer(send, b"{}", [])

    async def http_headers(self, scope: Any, receive: Any, send: Any) -> None:
        told = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        told.append(("path", f"{scope['raw_path'].decode()}?{scope['query_string'].decode()}"))
        back = [(b"connection", b"x-private"), (b"x-private", b"no"), (b"keep-alive", b"timeout=1")]
        back += [(b"set-cookie", b"one=1"), (b"set-cookie", b"two=2"), (b"x-public", b"yes")]
        await self.answer(send, json.dumps(told).encode(), back)

    async def http_gzip(self, scope: Any, receive: Any, send: Any) -> None:
        await self.answer(send, gzip.compress(b"hello" * 1000), [(b"content-encoding", b"gzip")])

    async def http_upload(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await self.answer(send, str(size).encode(), [])

    http_parcel = http_upload

    async def http_unread(self, scope: Any, receive: Any, send: Any) -> None:
        await self.answer(send, b"enough", [(b"connection", b"close")])

    async def http_download(self, scope: Any, receive: Any, send: Any) -> None:
        pieces = int(parse_qs(scope["query_string"].decode())["pieces"][0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def http_feed(self, scope: Any, receive: Any, send: Any) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        leaving = asyncio.create_task(receive())
        await leaving  # the end of the request's own body
        leaving = asyncio.create_task(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            await asyncio.sleep(0.02)
        self.note("left", leaving.result()["type"])

    async def http_die(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.note("died", scope["method"])
        os.kill(os.getpid(), signal.SIGKILL)

    async def websocket_echo(self, scope: Any, receive: Any, send: Any) -> None:
        """Says everything again; `close 4001 why` closes, `flood 100` sends so many long messages, `die` dies."""
        await receive()
        self.note("headers", json.dumps([name.decode() for name, _ in scope["headers"]]))
        await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None), "headers": []})
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text")
            word, _, rest = (text or "").partition(" ")
            if word == "close":
                code, _, why = rest.partition(" ")
                await send({"type": "websocket.close", "code": int(code), "reason": why})
                return
            if word == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            for _ in range(int(rest) if word == "flood" else 0):
                await send({"type": "websocket.send", "text": "x" * 65536, "bytes": None})
            if word != "flood":
                await send({"type": "websocket.send", "text": text, "bytes": message.get("bytes")})
        self.note("closed", f"{message['code']} {message.get('reason') or ''}".strip())

    async def websocket_shut(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": ""})


async def main(signals: Signals, role: str, path: Path, port: int) -> int:
    """Serve one of the two until a signal."""
    folder = os.environ.get("CERTIFICATES")
    certificate: dict[str, Any] = (
        {"tls_certificate": Path(folder, "cert.pem"), "tls_key": Path(folder, "cert.key")} if folder else {}
    )
    settings = ServerSettings(port=port, **certificate)

    def raw_bodies(method: str, path: str) -> int | None:
        return UPLOAD_BYTES.get(path.rpartition("/")[2])

    app: Any = FarModule(path.parent)
    peer = Peer(PeerHost(process="gpu", socket=path), Tokens(b"secret", "main"))
    if role == "gateway":
        places: Any = SimpleNamespace(ports={}, trusting_ports={})
        app = Gateway(app, places, {"gpu": peer}, lambda method, path: None, None, breaker_seconds=60.0)
        listener = Listener(name="gateway", port=port)
    else:
        listener = Listener(name="module", path=path)
    bounded = AccessLog(Boundary(app, Limits(), frozenset({"127.0.0.1", "localhost"}), frozenset(), raw_bodies))
    sockets = bind([listener], settings)
    try:
        return await serve(
            bounded,
            settings,
            sockets,
            signals=signals,
            draining=asyncio.Event(),
            loop_lag=LoopLag(),
            contexts=contexts([listener], sockets),
        )
    finally:
        await peer.close()


def start(role: str, socket: Path, port: int) -> int:
    """Run one of the two until a signal; gives the exit code."""
    logs.configure(LogSettings(format="json"), secrets=())
    try:
        return run(lambda signals: main(signals, role, socket, port))
    finally:
        logs.flush()

"""A tiny HTTP server on loopback that answers as it is told, or fails as it is told, and remembers what it was asked."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class Reply:
    """One answer. `breaks` ends the connection after so many bytes of the body."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks: int | None = None


def told(value: Any, status: int = 200, **headers: str) -> Reply:
    """An answer in JSON; underscores in the names of headers stand for dashes."""
    return Reply(status, json.dumps(value).encode(), {name.replace("_", "-"): text for name, text in headers.items()})


def problem(status: int, code: str, detail: str = "it does not go", **headers: str) -> Reply:
    """A refusal as the platform writes it."""
    document = {"type": f"/docs/errors#{code}", "title": code, "status": status, "detail": detail, "code": code}
    return told({**document, "request_id": "req_1"}, status, **headers)


Answers = Callable[[Received], Reply]


class TinyServer:
    """Where it listens, and what it was asked."""

    def __init__(self, answers: Answers) -> None:
        self.asked: list[Received] = []
        self.answers = answers
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                asked = Received(self.command, self.path, dict(self.headers), self.rfile.read(length))
                outer.asked.append(asked)
                told = outer.answers(asked)
                self.close_connection = True
                self.send_response(told.status)
                for name, text in {"Content-Type": "application/json", **told.headers}.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(told.body)))
                self.end_headers()
                self.wfile.write(told.body if told.breaks is None else told.body[: told.breaks])

            def log_message(self, *_: Any) -> None:
                """Silence."""

        for method in ("GET", "POST", "DELETE", "PUT"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def serve(self) -> None:
        """Answer until closed."""
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def answering(answers: Answers | Reply | list[Reply]) -> Iterator[TinyServer]:
    """A server that gives one answer to all, one after the other, or what a function says."""
    if isinstance(answers, Reply):
        one = answers
        chosen: Answers = lambda _: one  # noqa: E731 - a constant
    elif isinstance(answers, list):
        left = list(answers)
        chosen = lambda _: left.pop(0)  # noqa: E731
    else:
        chosen = answers
    server = TinyServer(chosen)
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


@contextmanager
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def nowhere() -> str:
    """A URL where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"

"""A chat server for the tests of miners, whose models come and go."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Engine(ThreadingHTTPServer):
    """A chat server with models that come and go; it streams, and names in its answer what a test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.listed: list[str] | None = ["m1", "m2"]
        self.loaded: set[str] | None = None
        """What it really has, where that is not what it lists."""
        self.entries: dict[str, dict[str, Any]] = {}
        """What its list says of a model beside its id."""
        self.beside: dict[str, Any] = {}
        """What it says at paths beside `/v1`."""
        self.answers_as: str | None = None
        self.refusal = 404
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        if self.path in self.server.beside:
            self.send(200, json.dumps(self.server.beside[self.path]).encode())
        elif self.server.listed is None:
            self.send(404, b"{}")
        else:
            self.send(
                200,
                json.dumps(
                    {"data": [{"id": model, **self.server.entries.get(model, {})} for model in self.server.listed]}
                ).encode(),
            )

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = body.get("model")
        if self.path in self.server.beside:
            self.send(200, json.dumps(self.server.beside[self.path].get(model, {})).encode())
            return
        self.server.asked.append(model)
        loaded = self.server.loaded if self.server.loaded is not None else set(self.server.listed or [model])
        if model not in loaded:
            error = {"message": f"model '{model}' not found", "code": "model_not_found"}
            self.send(self.server.refusal, json.dumps({"error": error}).encode())
            return
        chunk = {"model": self.server.answers_as or model, "choices": [{"delta": {"content": "Hi"}}]}
        end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        text = "".join(f"data: {json.dumps(one)}\n\n" for one in (chunk, end)) + "data: [DONE]\n\n"
        self.send(200, text.encode(), "text/event-stream")

    def send(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

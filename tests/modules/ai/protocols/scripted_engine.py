"""A chat server that does what the last message says: for what a real one does too rarely to be waited for."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "scripted"
CALL = {"id": "call_7", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


class ScriptedEngine(ThreadingHTTPServer):
    """Speaks the OpenAI protocol and follows orders.

    The last message is words: `say WORDS`, `count N SECONDS` (N tokens, so long apart), `echo` (the request itself),
    `call` (of a tool), `refuse WORDS`, `crash N SECONDS` (an error after N tokens, so long apart), `wait SECONDS`,
    `gate WORDS` (said once `gate` is set).
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, models: tuple[str, ...] = (MODEL,)) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = models
        self.requests: list[dict[str, Any]] = []
        self.failures = 0
        """How many of the next requests fail."""
        self.gate = threading.Event()
        self.left = 0
        """How many clients closed their connection before the end."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: ScriptedEngine

    def do_GET(self) -> None:
        self.answer(200, {"data": [{"id": model, "max_model_len": 8192} for model in self.server.models]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(asked)
        content = asked["messages"][-1].get("content") or "say"
        text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
        word, _, rest = text.partition(" ")
        if self.server.failures > 0:
            self.server.failures -= 1
            self.answer(503, {"error": {"message": "loading"}})
            return
        if word == "refuse":
            self.answer(400, {"error": {"message": rest, "code": "context_length_exceeded"}})
            return
        self.begin()
        try:
            self.follow(word, rest, asked)
        except OSError:
            self.server.left += 1

    def follow(self, word: str, rest: str, asked: dict[str, Any]) -> None:
        tokens, reason = [f"{part} " for part in rest.split()] or ["Hi."], "stop"
        if word == "echo":
            tokens = [json.dumps(asked, sort_keys=True)]
        elif word in ("count", "crash"):
            number, _, pause = rest.partition(" ")
            for index in range(int(number)):
                self.send_delta({"content": f"t{index} "})
                time.sleep(float(pause or 0))
            if word == "crash":
                self.send_chunk({"error": {"message": "the model has crashed", "code": 500}})
                return
            tokens = []
        elif word == "gate":
            self.server.gate.wait(300)
        elif word == "wait":
            time.sleep(float(rest))
        elif word == "call":
            head = {**CALL, "index": 0, "function": {"name": "weather", "arguments": ""}}
            self.send_delta({"role": "assistant", "tool_calls": [head]})
            self.send_delta({"tool_calls": [{"index": 0, "function": {"arguments": CALL["function"]["arguments"]}}]})  # type: ignore[index]
            tokens, reason = [], "tool_calls"
        self.say(tokens, reason, asked)

    def say(self, tokens: list[str], reason: str, asked: dict[str, Any]) -> None:
        limit = asked.get("max_tokens", 10_000)
        reason = "length" if len(tokens) > limit else reason
        tells = asked.get("logprobs") and asked.get("top_logprobs") != 0  # as llama.cpp does it
        for choice in range(asked.get("n") or 1):
            for token in tokens[:limit]:
                likely = {"content": [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
                self.send_delta({"content": token}, choice, logprobs=likely if tells else None)
            self.send_delta({}, choice, reason)
        usage = {"prompt_tokens": 5, "completion_tokens": max(len(tokens[:limit]), 1)}
        self.send_chunk({"choices": [], "usage": usage | {"total_tokens": sum(usage.values())}})
        self.wfile.write(b"data: [DONE]\n\n")

    def send_delta(self, delta: Any, index: int = 0, reason: str | None = None, logprobs: Any = None) -> None:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        self.send_chunk({"model": MODEL, "choices": [choice]})

    def send_chunk(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

    def answer(self, status: int, body: Any) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

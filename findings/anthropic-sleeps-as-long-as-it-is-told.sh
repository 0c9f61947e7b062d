#!/usr/bin/env bash
# anthropic 2.14.0: a Retry-After of any length is slept through, whatever `timeout` says; openai 3.57.0 gives up above two minutes.
#
# The two clients are generated from one template and read as if they were one. A server that answers 429 with the seconds until a
# quota comes back (300 here, or a day) makes openai raise at once, since nobody would wait for that; anthropic sleeps in the call
# for all of it, up to 4,294,967 seconds, and `timeout=1.0` bounds each request, not the sleep between two. A program seems to hang.
#
# Seen with Python 3.11.7 on 2026-11-28:
#   openai: RateLimitError after 1 request; anthropic: still asleep after 10 s, 1 request
# What follows here: `/v1` never sends a Retry-After above 60 s; the true time until a limit or budget opens is in the message.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check anthropic==2.14.0 openai==3.57.0 >&2
HOME=$folder "$folder/venv/bin/python" - <<'PY'
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import openai

asked: Counter[str] = Counter()
ASK = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello."}]}


class Server(BaseHTTPRequestHandler):
    """Has a quota that comes back in five minutes."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        asked[self.path] += 1
        body = b'{"type": "error", "error": {"type": "rate_limit_error", "message": "used up"}}'
        self.send_response(429)
        self.send_header("Retry-After", "300")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}"

first = "nothing"
try:
    openai.OpenAI(base_url=f"{url}/v1", api_key="k", timeout=1.0).chat.completions.create(**ASK)
except openai.RateLimitError as error:
    first = type(error).__name__

second = "still asleep"


def call() -> None:
    global second
    try:
        anthropic.Anthropic(base_url=url, api_key="k", timeout=1.0).messages.create(**ASK)
    except anthropic.APIError as error:
        second = type(error).__name__


calling = threading.Thread(target=call, daemon=True)
calling.start()
calling.join(10)
counts = asked["/v1/chat/completions"], asked["/v1/messages"]
seen = f"openai: {first} after {counts[0]} request; anthropic: {second} after 10 s, {counts[1]} request"
print(seen)
assert seen == "openai: RateLimitError after 1 request; anthropic: still asleep after 10 s, 1 request", seen
PY

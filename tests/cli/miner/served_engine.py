"""An engine for the tests of served models: `python served_engine.py --port N …`.

It answers 503 while it loads, and the chat "die" ends it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    model = ""
    ready_at = 0.0

    def do_GET(self) -> None:
        if time.monotonic() < self.ready_at:
            self.send(503, {"error": "loading"})
        elif self.path == "/health":
            self.send(200, {"status": "ok"})
        else:
            self.send(200, {"data": [{"id": self.model}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        if said == "die":
            os._exit(7)
        time.sleep(float(said) if said.replace(".", "").isdigit() else 0)
        message = {"role": "assistant", "content": f"{body['model']} {os.getpid()}"}
        self.send(200, {"model": body["model"], "choices": [{"message": message, "finish_reason": "stop"}]})

    def send(self, status: int, body: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--as", dest="name", default="m")
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--child", metavar="MARK", help="start a process that has this in its command line")
    wanted = parser.parse_args()
    if wanted.broken:
        sys.exit("no room for these weights")
    if wanted.child:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", wanted.child])
    Handler.model, Handler.ready_at = wanted.name, time.monotonic() + wanted.load
    ThreadingHTTPServer(("127.0.0.1", wanted.port), Handler).serve_forever()


if __name__ == "__main__":
    main()

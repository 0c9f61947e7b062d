#!/usr/bin/env bash
# openai-agents 0.24.0: a streamed run over chat completions counts no tokens at any server but OpenAI's own.
#
# Usage comes in the last event of a stream for who asks with `stream_options.include_usage`. The library asks only where the address
# is OpenAI's; at any other it sends no such option, and its total for the run is 0 without a warning, while the same run counts when
# it is not streamed. Budgets and reports built on `context_wrapper.usage` see free work.
#
# Seen with openai 3.57.0, Python 3.11.7 on 2026-11-28, against a server that follows the specification:
#   whole: 12 tokens, streamed: 0 tokens, streamed with include_usage=True: 12 tokens
# What follows here: docs/guides/openai.md tells its users; what a job cost stands on the server (`usage`, receipts) in any case.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check openai-agents==0.24.0 openai==3.57.0 >&2
HOME=$folder "$folder/venv/bin/python" - <<'PY'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Server(BaseHTTPRequestHandler):
    """Answers a chat as the specification says: whole, or in events, with usage for who asks."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        one = {"id": "c", "created": 1, "model": "m"}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "Hello."}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            self.tell("application/json", json.dumps({**one, "object": "chat.completion", "choices": [choice], "usage": USAGE}))
            return
        chunk = {**one, "object": "chat.completion.chunk"}
        events = [{**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello."}}]}]
        events += [{**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
        if (asked.get("stream_options") or {}).get("include_usage"):
            events += [{**chunk, "choices": [], "usage": USAGE}]
        self.tell("text/event-stream", "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n")

    def tell(self, kind: str, text: str) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


async def tokens(url: str, *, streamed: bool, **settings: bool) -> int:
    """The total that the library has for one run."""
    model = OpenAIChatCompletionsModel(model="m", openai_client=AsyncOpenAI(base_url=url, api_key="k"))
    agent = Agent(name="a", model=model, model_settings=ModelSettings(**settings))
    if not streamed:
        return (await Runner.run(agent, "Hello?")).context_wrapper.usage.total_tokens
    result = Runner.run_streamed(agent, "Hello?")
    async for _ in result.stream_events():
        pass
    return result.context_wrapper.usage.total_tokens


async def main(url: str) -> str:
    whole, streamed = await tokens(url, streamed=False), await tokens(url, streamed=True)
    asked = await tokens(url, streamed=True, include_usage=True)
    return f"whole: {whole} tokens, streamed: {streamed} tokens, streamed with include_usage=True: {asked} tokens"


set_tracing_disabled(True)
server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = asyncio.run(main(f"http://127.0.0.1:{server.server_address[1]}/v1"))
print(seen)
assert seen == "whole: 12 tokens, streamed: 0 tokens, streamed with include_usage=True: 12 tokens", seen
PY

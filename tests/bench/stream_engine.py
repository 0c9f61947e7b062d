"""A chat server that makes 100 tokens a second for each stream: `python -m tests.bench.stream_engine FOLDER`.

It writes its address to `engine.url` in the folder, and serves until it is ended.
"""

import asyncio
import json
import sys
from pathlib import Path

from aiohttp import web

MODEL = "bench"
TOKENS_A_SECOND = 100
URL_FILE = "engine.url"


async def answer(request: web.Request) -> web.StreamResponse:
    """So many tokens as `max_tokens` asks for, each in its time."""
    asked = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    begun, tokens = loop.time(), int(asked["max_tokens"])
    for number in range(tokens):
        await asyncio.sleep(max(begun + number / TOKENS_A_SECOND - loop.time(), 0))
        delta = {"index": 0, "delta": {"content": f" tok{number}"}, "finish_reason": None}
        await response.write(f"data: {json.dumps({'model': MODEL, 'choices': [delta]})}\n\n".encode())
    end = {"index": 0, "delta": {}, "finish_reason": "length"}
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": tokens + 5}
    for chunk in ({"model": MODEL, "choices": [end]}, {"model": MODEL, "choices": [], "usage": usage}):
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def models(_request: web.Request) -> web.Response:
    """The one model."""
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


async def serve(folder: Path) -> None:
    """Serve until the process is ended."""
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", answer), web.get("/v1/models", models)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (folder / f"{URL_FILE}.new").write_text(f"http://127.0.0.1:{port}")
    (folder / f"{URL_FILE}.new").rename(folder / URL_FILE)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))

"""A server of a few lines, run as a process by the tests of the uvicorn server."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.telemetry import logs
from aitbc.kernel.telemetry.logs import LogSettings
from aitbc.server.asgi.access_log import AccessLog
from aitbc.server.config.listeners import Listener, bind, gateway
from aitbc.server.config.settings import ServerSettings
from aitbc.server.runtime.systemd import Notifier
from aitbc.server.runtime.uvicorn_server import Signals, run, serve


class SmallApp:
    """Answers at once, slowly, never, or until the server drains, as the path says."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.draining = asyncio.Event()
        self.loop_lag = LoopLag()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        await getattr(self, scope["path"].strip("/") or "index")(query, send)

    async def lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(self.options.get("start_seconds", 0))
        if self.options.get("start_fails"):
            await send({"type": "lifespan.startup.failed", "message": "no"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(self.options.get("stop_seconds", 0))
        if self.options.get("stop_fails"):
            raise RuntimeError
        Path(self.options["folder"], "cleaned").touch()  # noqa: ASYNC240
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, send: Any, text: str) -> None:
        body = text.encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def index(self, query: dict[str, str], send: Any) -> None:
        await self.answer(send, "hello")

    async def slow(self, query: dict[str, str], send: Any) -> None:
        await asyncio.sleep(float(query["seconds"]))
        await self.answer(send, "done")

    async def poll(self, query: dict[str, str], send: Any) -> None:
        async with asyncio.timeout(30):
            await self.draining.wait()
        await self.answer(send, "nothing yet")

    async def stream(self, query: dict[str, str], send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        number = 0
        while not self.draining.is_set():
            number += 1
            filling = "x" * int(query.get("bytes", "1"))
            part = f"id: {number}\ndata: {filling}\n\n".encode()
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"event: bye\n\n", "more_body": False})

    async def freeze(self, query: dict[str, str], send: Any) -> None:
        time.sleep(float(query["seconds"]))  # noqa: ASYNC251 - the loop is to stand still
        await self.answer(send, "thawed")

    async def pause(self, query: dict[str, str], send: Any) -> None:
        await self.answer(send, json.dumps(self.loop_lag.recent_pause()))


async def main(signals: Signals, options: dict[str, Any]) -> int:
    """Serve the small app with the options of the test."""
    app = SmallApp(options)
    settings = ServerSettings(**{"port": 0, **options.get("settings", {})})
    places = [gateway(settings)]
    if "path" in options:
        places.append(Listener(name="unix", path=Path(options["path"])))
    notifier = Notifier(options.get("notify"), 0.2 if "notify" in options else None)
    sockets = bind(places, settings)
    return await serve(
        AccessLog(app),
        settings,
        sockets,
        signals=signals,
        draining=app.draining,
        loop_lag=app.loop_lag,
        notifier=notifier,
    )


def start(given: dict[str, Any]) -> int:
    """Serve until a signal; gives the exit code."""
    logs.configure(LogSettings(format="json"), secrets=given.get("secrets", ()))
    try:
        return run(lambda signals: main(signals, given))
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    finally:
        logs.flush()

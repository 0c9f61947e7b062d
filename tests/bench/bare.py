"""The least that an answer can cost here: our own server around an application that only answers.

Started as `python -m tests.bench.bare PORT BODY_BYTES`.
"""

import asyncio
import sys
from typing import Any

from litestar.types import ASGIApp

from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.server.config import listeners
from aitbc.server.config.settings import ServerSettings
from aitbc.server.runtime import uvicorn_server


def answering(size: int) -> ASGIApp:
    """An application that gives the same answer to everything."""
    body = b'"' + b"x" * (size - 2) + b'"'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def main(port: int, size: int) -> int:
    """Serve until a signal."""
    settings = ServerSettings(port=port)
    sockets = listeners.bind([listeners.gateway(settings)], settings)

    async def serve(signals: uvicorn_server.Signals) -> int:
        return await uvicorn_server.serve(
            answering(size), settings, sockets, signals=signals, draining=asyncio.Event(), loop_lag=LoopLag()
        )

    return uvicorn_server.run(serve)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))

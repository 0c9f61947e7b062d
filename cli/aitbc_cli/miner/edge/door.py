"""Where an edge answers those who are near: HTTP with a token of the deployment, with or without the server."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.options import MinerFailed

BODY_BYTES_MAX = 256 * 1024
Answer = tuple[int, Mapping[str, Any]]


class Door:
    """Serves HTTP."""

    def __init__(
        self,
        run: Callable[[str, str, Any], Awaitable[Answer]],
        hear: Callable[[Any], bool],
        health: Callable[[], Mapping[str, Any]],
    ) -> None:
        """`run` answers deployment, token and body; `hear` takes a neighbour's sign of life."""
        self._run = run
        self._hear = hear
        self._health = health
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Where it answers, once it does."""

    async def open(self, host: str, port: int, event_log: EventLog) -> None:
        """Begin to answer. Raises `MinerFailed` where the port cannot be had."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/deployments/{deployment}/run", self._on_run)
        app.router.add_post("/signs", self._on_sign)
        app.router.add_get("/health", self._on_health)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise MinerFailed(f"--edge-port {port}: {error.strerror}; choose another") from None
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        event_log.note("edge_serves", url=self.url)

    async def close(self) -> None:
        """Answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _on_run(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        body = await _body(request)
        if body is None:
            return web.json_response({"code": "invalid", "detail": "Expected a JSON object."}, status=422)
        token = token if scheme.lower() == "bearer" else ""
        status, answer = await self._run(request.match_info["deployment"], token, body)
        return web.json_response(answer, status=status)

    async def _on_sign(self, request: web.Request) -> web.Response:
        return web.Response(status=204 if self._hear(await _body(request)) else 422)

    async def _on_health(self, _: web.Request) -> web.Response:
        return web.json_response(self._health())


async def _body(request: web.Request) -> Any:
    try:
        found = json.loads(await request.read())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

"""A real browser that opens a page: headless Chromium, where it is installed."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

from tests.cli.tiny_server import Received, Reply, TinyServer
from tests.deploy.programs import program

RESULT = "/result"
SECONDS = 60.0
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--no-proxy-server", "--disable-default-apps", "--no-default-browser-check"),
)


@contextmanager
def opened(url: str, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A browser that shows this page until the block ends."""
    command = [program("chromium"), *QUIET, f"--user-data-dir={folder / 'profile'}", *options, url]
    with (folder / "chromium.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as browser:
        try:
            yield browser
        finally:
            browser.terminate()
            browser.wait(30)


class Page(TinyServer):
    """A page of an origin of its own, whose script ends with `report(what it found)`."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.script = ""
        self._found: Any = None
        self._reported = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def run(self, script: str, folder: Path) -> Any:
        """What the script reports once a browser has run it."""
        self.script = script
        self._reported.clear()
        with opened(f"{self.url}/", folder):
            assert self._reported.wait(SECONDS), (folder / "chromium.log").read_text()[-3000:]
        return self._found

    def _answer(self, asked: Received) -> Reply:
        if asked.path == RESULT:
            self._found = json.loads(asked.body)
            self._reported.set()
            return Reply()
        if asked.path != "/":
            return Reply(404)
        page = (
            "<!doctype html><title>a page</title><script>const report = (found) => "
            f"fetch('{RESULT}', {{method: 'POST', body: JSON.stringify(found)}});\n"
            f"(async () => {{\n{self.script}\n}})().catch((error) => report({{failed: String(error)}}));</script>"
        )
        return Reply(body=page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


class Tab:
    """A page that a test looks into and acts in, over the browser's own protocol for developers."""

    def __init__(self, socket: ClientWebSocketResponse, port: int) -> None:
        self._socket = socket
        self.port = port
        """Where the browser's protocol for developers listens."""
        self._number = 0
        self.complaints: list[str] = []
        """What the browser had to say: errors, refusals of the page's own policy, requests to others."""
        self.requested: list[str] = []
        """What was asked for, where the domain `Network` is enabled."""
        self._documents: list[str] = []
        """The documents that this tab had, in their order."""
        self._loaded: set[str] = set()
        """Those of them that have loaded; one that sends the tab on at once never does."""

    async def call(self, method: str, **parameters: Any) -> Any:
        """The result of one command."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(SECONDS):
            while (message := await self._socket.receive_json()).get("id") != self._number:
                self._note(message["method"], message["params"])
        return message["result"]

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(told)[:500])
        elif event == "Network.requestWillBeSent":
            self.requested.append(told["request"]["url"])
        elif event == "Page.lifecycleEvent" and told["name"] == "init":
            self._documents.append(told["loaderId"])
        elif event == "Page.lifecycleEvent" and told["name"] == "load":
            self._loaded.add(told["loaderId"])

    def _has_loaded(self, document: str) -> bool:
        """Whether this document has, or one that followed it."""
        return document in self._documents and not self._loaded.isdisjoint(
            self._documents[self._documents.index(document) :]
        )

    async def go(self, url: str) -> None:
        """Open a page, and wait until the browser tells that it, or what it leads to, has loaded with its scripts."""
        document = (await self.call("Page.navigate", url=url)).get("loaderId")
        async with asyncio.timeout(SECONDS):
            while document is not None and not self._has_loaded(document):
                message = await self._socket.receive_json()
                self._note(message["method"], message["params"])

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        told = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression, once it is true."""
        async with asyncio.timeout(SECONDS):
            while not (value := await self.evaluate(script)):  # noqa: ASYNC110 - the page has no event of ours
                await asyncio.sleep(0.05)
        return value


def _port(file: Path) -> int:
    """Where the browser's protocol for developers listens, once it does."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if file.exists() and (lines := file.read_text().split()):
            return int(lines[0])
        time.sleep(0.02)
    raise TimeoutError


@asynccontextmanager
async def tab(url: str, folder: Path, seconds: float = SECONDS) -> AsyncIterator[Tab]:
    """A tab with a page, and what the browser said of it from its beginning on."""
    port_file = folder / "profile" / "DevToolsActivePort"
    with opened("about:blank", folder, "--remote-debugging-port=0", "--window-size=1400,900"):
        async with asyncio.timeout(seconds), ClientSession() as session:
            port = await asyncio.to_thread(_port, port_file)
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                [page] = [one for one in await answer.json() if one["type"] == "page"]
            async with _attached(session, page["webSocketDebuggerUrl"], port) as opened_tab:
                await opened_tab.call("Page.navigate", url=url)
                yield opened_tab


@asynccontextmanager
async def beside(first: Tab) -> AsyncIterator[Tab]:
    """A further tab of the same browser, before the others."""
    at = f"http://127.0.0.1:{first.port}/json"
    async with ClientSession() as session:
        async with session.put(f"{at}/new?about:blank") as answer:
            page = await answer.json()
        async with _attached(session, page["webSocketDebuggerUrl"], first.port) as opened_tab:
            yield opened_tab
        async with session.get(f"{at}/close/{page['id']}") as answer:
            assert answer.status == 200


@asynccontextmanager
async def _attached(session: ClientSession, url: str, port: int) -> AsyncIterator[Tab]:
    async with session.ws_connect(url, max_msg_size=0) as socket:
        opened_tab = Tab(socket, port)
        for domain in ("Log", "Page", "Runtime"):
            await opened_tab.call(f"{domain}.enable")
        await opened_tab.call("Page.setLifecycleEventsEnabled", enabled=True)
        yield opened_tab

"""A real browser that opens a page: headless Chromium, where it is installed."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
            browser.wait(10)


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

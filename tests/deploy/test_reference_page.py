"""The reference at /docs in a real browser: it shows everything, tries operations out, and asks nobody else for anything."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.browser import tab
from tests.chaos.server_process import ServerProcess
from tests.deploy.programs import free_port, program
from tests.scale import only_in_full

STATIC = ROOT / "src/aitbc/server/asgi/static"
VENDOR = STATIC / "vendor"
ROOT_OF = "document.querySelector('rapi-doc').shadowRoot"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running server."""
    program("chromium")
    server = ServerProcess(tmp_path_factory.mktemp("server") / "state", free_port())
    server.start()
    yield server
    server.stop()


def test_what_others_released_is_unmodified_and_licensed() -> None:
    sums = dict(line.split("  ")[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == {path.name for path in VENDOR.iterdir()} - {"README.md", "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    assert "MIT License" in (VENDOR / "rapidoc-LICENSE.txt").read_text()
    script = (VENDOR / "rapidoc-min.js").read_bytes()
    assert f"sha384-{b64encode(hashlib.sha384(script).digest()).decode()}" in (STATIC / "docs.html").read_text()


DEEP = """(() => {
  const read = (node) => [...node.childNodes].map((one) => one.nodeType === 3 ? one.data : one.localName === "style" ? "" :
    read(one) + (one.shadowRoot ? read(one.shadowRoot) : "")).join(" ");
  return document.body ? read(document.body) : "";
})()"""
"""All text of the page, inside of its elements too."""
TRY = f"{ROOT_OF}.querySelector('api-request')?.shadowRoot.querySelector('.m-btn.primary')"


@only_in_full
async def test_the_reference_shows_fields_and_tries_an_operation_out(server: ServerProcess, tmp_path: Path) -> None:
    async with tab(f"{server.url}/docs", tmp_path) as page:
        await page.until(f"{DEEP}.includes('Submit a job')")
        await page.evaluate("location.hash = '#post-/api/v1/ai/jobs'")
        await page.until(f"{DEEP}.includes('The most it may cost')")
        await page.evaluate(f"document.querySelector('rapi-doc').setApiKey('bearer', '{server.admin_key}')")
        await page.evaluate("location.hash = '#get-/api/v1/identity/keys/self'")
        await page.until(f"!{DEEP}.includes('The most it may cost') && !!({TRY})")
        await page.evaluate(f"{TRY}.click()")
        await page.until(f"/acct_(?!01k00000)[0-9a-z]{{26}}/.test({DEEP})")
        others = await page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert [one for one in others if not one.startswith((server.url, "data:"))] == []
    assert page.complaints == []

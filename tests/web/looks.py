"""What a browser makes of a page: what it complains about, whom it asks, what axe finds, and how it looks."""

import base64
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, CookieJar
from msgspec import Struct
from yarl import URL

from tests.browser import Tab

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PICTURES = Path(__file__).parents[2] / "build" / "pages"
FIND = """
(async () => {
  for (const details of document.querySelectorAll('details')) details.open = true;
  const found = await axe.run(document, {resultTypes: ['violations']});
  return found.violations.map((one) => `${one.id} (${one.impact}): ${one.nodes[0].html.slice(0, 160)}`);
})()
"""
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Look(Struct, frozen=True):
    """How a page did."""

    complaints: list[str]
    """Errors, and refusals of the page's policy."""
    foreign: list[str]
    """Requests to other hosts."""
    violations: list[str]
    """What axe found."""
    too_wide: bool
    """Whether the page as a whole must be scrolled sideways."""

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.complaints or self.foreign or self.violations or self.too_wide)


async def prepare(tab: Tab) -> None:
    """Have a tab tell what it asks for."""
    await tab.call("Network.enable")


async def sign_in(tab: Tab, url: str, key: str) -> str:
    """Sign a tab in as a browser is, by the form; returns the cookie's value."""
    async with (
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as session,
        session.post(f"{url}/sign-in", data={"code": key, "next": "/"}, allow_redirects=False) as answer,
    ):
        assert answer.status == 303, await answer.text()
        [cookie] = answer.cookies.values()
    await tab.call("Network.clearBrowserCookies")
    await tab.call("Network.setCookie", name=cookie.key, value=cookie.value, url=url, httpOnly=True)
    return cookie.value


async def look(tab: Tab, url: str, *, width: int, dark: bool, picture: str | None = None) -> Look:
    """Open a page in a window of this width, in the light or in the dark."""
    tab.complaints.clear()
    tab.requested.clear()
    scheme = "dark" if dark else "light"
    await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    await tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    await tab.go(url)
    if picture is not None:
        await shoot(tab, picture)
    await tab.evaluate(AXE.read_text() + "; 0")
    violations = await tab.evaluate(FIND)
    return Look(
        complaints=list(tab.complaints),
        foreign=[one for one in tab.requested if not one.startswith("data:") and URL(one).host != URL(url).host],
        violations=violations,
        too_wide=await tab.evaluate(TOO_WIDE),
    )


async def shoot(tab: Tab, name: str, *, whole: bool = True) -> Path:
    """Write a picture of what is shown to build/pages."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    taken: dict[str, Any] = await tab.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
    file = PICTURES / f"{name}.png"
    file.write_bytes(base64.b64decode(taken["data"]))
    return file

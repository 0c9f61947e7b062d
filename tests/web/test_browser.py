"""The pages in a real browser: nothing to complain about in any light or width, and work done by keyboard, over a reload, a
restart of the server and the end of a session."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.app import Caller
from tests.browser import Tab, beside, tab
from tests.deploy.programs import program
from tests.journeys.hand_miner import HandMiner
from tests.journeys.shapes import TestInstallation, installed
from tests.scale import FULL, only_in_full, scaled
from tests.web.looks import look, prepare, sign_in
from tests.web.stock import PAIR, RULES, Stock, stocked

BROWSER_SECONDS = 1500.0
LOOKS = scaled([(360, True), (1280, False)], [(360, True), (360, False), (1280, True), (1280, False), (3840, False)])
PAGES: tuple[str, ...] = (
    "/",
    "/jobs",
    "/jobs/new",
    "/miners",
    "/miners/enrol",
    "/miners/approve",
    "/explorer",
    "/explorer/transactions",
)
PAGES += ("/explorer/receipts", "/explorer/verify", "/explorer/blocks/1", "/account", "/account/statement")
PAGES += ("/account/keys", "/account/sessions", "/account/webhooks", "/market", "/market/own", "/market/bookings")
PAGES += ("/market/book", "/market/exchange", "/market/exchange/orders")
PAGES += ("/trades", "/trades/offers", "/trades/matches", "/trades/new-request", "/trades/new-offer", "/agents")
PAGES += ("/agents/edges", "/agents/deployments")
PAGES += ("/agents/runs", "/plugins", "/plugins/own", "/proposals", "/proposals/new", "/proposals/parameters")
PAGES += ("/proposals/stake", "/proposals/treasury", "/account/usage", "/account/limits", "/account/classes")
PAGES += ("/graphs", "/graphs/new", "/studies", "/studies/new")
FORMS = ("/jobs/new/embed", "/jobs/new/ocr", "/jobs/new/chat", "/jobs/new/command")
OPERATOR: tuple[str, ...] = (
    "/operator",
    "/operator/events",
    "/operator/audit",
    "/operator/accounts",
    "/plugins/installed",
    "/status",
)
OPERATOR += ("/operator/monitors", "/operator/settings", "/operator/database", "/operator/log-levels")
NASTY = "<b>bold</b> <script>document.title = 'taken'</script> \u05e9\u05dc\u05d5\u05dd \u732b"

SPOIL = """
const file = document.getElementById('file');
file.textContent = file.textContent.replace(/"price": "[^"]+"/, '"price": "9"');
document.dispatchEvent(new Event('DOMContentLoaded'));
0
"""
"""Gives the receipt in the page another price, and has it checked again."""


@dataclass
class Scene:
    """An installation, in full with each module in a process of its own, its people, and a browser."""

    installation: TestInstallation
    tab: Tab
    buyer: Caller
    owner: Caller
    admin: Caller
    miner: HandMiner
    talker: HandMiner
    paid: dict[str, Any]
    stock: Stock

    @property
    def url(self) -> str:
        """Where the pages are."""
        return self.installation.servers[0].url

    async def as_(self, who: Caller) -> None:
        """Have the browser be somebody's."""
        await sign_in(self.tab, self.url, who.secret)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the whole file, so that its tests can share a browser."""
    return "asyncio"


@pytest.fixture(scope="module")
async def scene(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target], anyio_backend: str
) -> AsyncIterator[Scene]:
    """A market with a paid job whose texts have markup in them."""
    program("chromium")
    with installed(
        scaled("mounted", "all split"), tmp_path_factory.mktemp("installation"), new_database, RULES
    ) as installation:
        buyer, owner = await installation.who("buyer", funds="300"), await installation.who("owner")
        miner = await HandMiner.enrol(installation, owner, gpus=("NVIDIA H100 80GB HBM3",))
        talker = await HandMiner.enrol(installation, owner, kinds=("chat",))
        await miner.beat()
        await talker.beat()
        body = {"kind": "embed", "input": {"texts": [NASTY, "b", "c"]}, "max_price": "0.05"}
        job = (await buyer.post("/api/v1/ai/jobs", body)).json()
        [lease] = await miner.poll(wait=20)
        await miner.deliver(lease)
        paid = (await buyer.get(f"/api/v1/ai/jobs/{job['id']}")).json()
        stock = await stocked(installation, buyer, owner)
        async with tab("about:blank", tmp_path_factory.mktemp("browser"), BROWSER_SECONDS) as opened:
            await prepare(opened)
            yield Scene(installation, opened, buyer, owner, await installation.admin(), miner, talker, paid, stock)


async def _looked_at(scene: Scene, role: str, paths: tuple[str, ...]) -> dict[str, Any]:
    """What is wrong with these pages, by page; by `make test` one of nine: all of them are asked for without a browser."""
    wrong = {}
    for at, path in enumerate(paths if FULL else paths[::9]):
        looks = LOOKS if FULL else [LOOKS[at % len(LOOKS)]]
        for width, dark in looks:
            words = re.sub(r"[a-z]+_[0-9a-z]{26}|ns-[\w.-]+", "one", path.partition("?")[0])
            name = (
                f"{role}{words.replace('/', '-') if path != '/' else '-overview'}-{width}-{'dark' if dark else 'light'}"
            )
            picture = name[:90] if FULL else None
            found = await look(scene.tab, scene.url + path, width=width, dark=dark, picture=picture)
            if not found.is_fine:
                wrong[name] = found
    return wrong


@pytest.mark.timeout(1200)
async def test_no_page_has_anything_to_complain_about(scene: Scene) -> None:
    receipt = scene.paid["receipt"]
    told = (await scene.buyer.get(f"/api/v1/trading/receipts/{receipt}")).json()["receipt"]
    detail: tuple[str, ...] = (
        f"/jobs/{scene.paid['id']}",
        f"/explorer/receipts/{receipt}",
        f"/jobs/new/embed?again={scene.paid['id']}",
    )
    detail += (f"/explorer/transactions/{told['transaction']}", f"/explorer/addresses/{told['payer']}")
    detail += scene.stock.pages
    await scene.tab.call("Network.clearBrowserCookies")
    wrong = await _looked_at(scene, "signed-out", ("/sign-in", "/status"))
    await scene.as_(scene.buyer)
    wrong |= await _looked_at(scene, "buyer", (*PAGES, *FORMS, *detail))
    await scene.as_(scene.owner)
    wrong |= await _looked_at(
        scene, "owner", (f"/miners/{scene.miner.id}", *(PAGES if FULL else ("/miners", "/market/own")))
    )
    await scene.as_(scene.admin)
    wrong |= await _looked_at(
        scene,
        "operator",
        (f"/plugins/{scene.stock.plugin}", *OPERATOR, *((*PAGES, *FORMS, *detail) if FULL else ("/",))),
    )
    assert not wrong, wrong


async def test_what_people_write_runs_nothing_and_a_receipt_is_checked_in_the_page(scene: Scene) -> None:
    await scene.as_(scene.buyer)
    await scene.tab.go(f"{scene.url}/jobs/{scene.paid['id']}")
    assert "taken" not in await scene.tab.evaluate("document.title")
    assert NASTY in await scene.tab.evaluate("document.getElementById('result').textContent")
    async with asyncio.timeout(30):
        while not (await scene.buyer.get(f"/api/v1/trading/receipts/{scene.paid['receipt']}")).json()["proof"]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await scene.tab.go(f"{scene.url}/explorer/receipts/{scene.paid['receipt']}")
    await scene.tab.until("document.getElementById('verdict')?.textContent.includes('genuine')")
    assert await scene.tab.evaluate("document.querySelectorAll('#proof .good').length") == 5
    await scene.tab.evaluate(SPOIL)
    await scene.tab.until("document.getElementById('verdict')?.textContent.includes('could not confirm')")
    await scene.tab.go(f"{scene.url}/explorer/verify")
    await scene.tab.evaluate("document.querySelector('a[download]').click()")
    await scene.tab.until("document.getElementById('progress')?.textContent.startsWith('Complete: ')")


SEEN = """Object.defineProperty(document, "hidden", {{configurable: true, get: () => {}}});
document.dispatchEvent(new Event("visibilitychange"))"""
"""Puts the tab behind another one, or before it again."""


async def press(scene: Scene, key: str, *, text: str = "") -> None:
    """Press a key."""
    code = {"Tab": 9, "Enter": 13, " ": 32}[key]
    more = {"text": text} if text else {}
    await scene.tab.call(
        "Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **more
    )
    await scene.tab.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)


async def tab_to(scene: Scene, selector: str) -> None:
    """Go from field to field until the one that is wanted has the focus."""
    for _ in range(60):
        await press(scene, "Tab")
        if await scene.tab.evaluate(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"no way to {selector} by keyboard")


async def test_a_job_is_submitted_and_canceled_by_keyboard_alone(scene: Scene) -> None:
    await scene.as_(scene.buyer)
    await scene.tab.go(f"{scene.url}/jobs/new/command")
    await tab_to(scene, "#f-program")
    await scene.tab.call("Input.insertText", text="nothing-runs-this")
    await tab_to(scene, "button[value=submit]")
    await press(scene, "Enter", text="\r")
    await scene.tab.until("location.pathname.startsWith('/jobs/job_') && document.readyState === 'complete'")
    await tab_to(scene, "form[action$='/cancel'] button")
    await press(scene, "Enter", text="\r")
    await scene.tab.until("document.querySelector('h1')?.textContent.includes('canceled')")


@only_in_full
async def test_gold_is_bought_by_keyboard_and_the_open_book_follows(scene: Scene) -> None:
    await scene.as_(scene.buyer)
    pair = f"{scene.url}/market/exchange/pairs/{PAIR}"
    await scene.tab.go(pair)
    for field, text in (("#f-quantity", "2"), ("#f-price", "2")):
        await tab_to(scene, field)
        await scene.tab.call("Input.insertText", text=text)
    await press(scene, "Enter", text="\r")
    await scene.tab.until("location.pathname.startsWith('/market/exchange/orders/ordr_')")
    await scene.tab.until("document.querySelector('h1')?.textContent.includes('filled')")
    await scene.tab.go(pair)
    owned = float(await scene.tab.evaluate("document.querySelector('#asset-GOLD td.num')?.textContent"))
    assert 2.9 < owned < 3  # one before, two now, less the fees
    wish = {"pair": PAIR, "side": "sell", "quantity": "1", "price": "7.25"}
    assert (await scene.owner.post("/api/v1/trading/exchange/orders", wish)).status_code == 201
    await scene.tab.until("document.getElementById('asks')?.textContent.includes('7.25')")


async def test_an_answer_is_shown_as_it_is_written_also_after_a_reload(scene: Scene) -> None:
    await scene.as_(scene.buyer)
    body = {"kind": "chat", "input": {"messages": [{"role": "user", "content": "hi"}]}, "max_price": "0.05"}
    job = (await scene.buyer.post("/api/v1/ai/jobs", body)).json()
    await scene.tab.go(f"{scene.url}/jobs/{job['id']}")
    [lease] = await scene.talker.poll(wait=20)

    async def say(number: int, text: str) -> None:
        told = {"token": lease["token"], "parts": [{"sequence": number, "text": text}]}
        answer = await scene.talker.client.post(f"/api/v1/gpu/leases/{lease['attempt']}/parts", json=told)
        assert answer.status_code == 200, answer.text

    shown = "document.getElementById('answer')?.textContent === {!r}"
    await say(1, "The cat ")
    await scene.tab.until(shown.format("The cat "))
    await scene.tab.go(f"{scene.url}/jobs/{job['id']}")
    await scene.tab.until(shown.format("The cat "))
    await scene.tab.evaluate(SEEN.format("true"))  # a tab behind another one keeps no connection
    await say(2, "sleeps.")
    await asyncio.sleep(0.5)
    assert await scene.tab.evaluate(shown.format("The cat "))
    await scene.tab.evaluate(SEEN.format("false"))
    await scene.tab.until(shown.format("The cat sleeps."))
    output = {"message": {"role": "assistant", "content": "The cat sleeps."}, "finish_reason": "stop"}
    answer = await scene.talker.deliver(lease, output)
    assert answer.status_code == 200, answer.text
    await scene.tab.until("document.querySelector('h1')?.textContent.includes('succeeded')")
    await scene.tab.until("document.getElementById('result')?.textContent.includes('The cat sleeps.')")


@only_in_full
async def test_a_page_outlives_a_restart_of_the_server_with_what_was_typed(scene: Scene) -> None:
    await scene.as_(scene.buyer)
    await scene.tab.go(f"{scene.url}/jobs/new/embed")
    await scene.tab.evaluate("document.getElementById('f-texts').focus()")
    await scene.tab.call("Input.insertText", text="typed before the restart")
    await scene.tab.go(f"{scene.url}/")
    before = await scene.tab.evaluate(
        "document.querySelectorAll('#blocks tr').length && document.querySelector('#blocks tr').id"
    )
    [server] = scene.installation.servers
    await asyncio.to_thread(server.stop)
    await scene.tab.until("document.getElementById('banner')?.hidden === false")
    await asyncio.to_thread(server.start)
    deposit = {"account": scene.buyer.principal.account, "amount": "1", "reason": "after the restart"}
    async with asyncio.timeout(60):  # the modules' own processes come back one by one
        while (await scene.admin.post("/api/v1/trading/deposits", deposit)).status_code != 201:  # noqa: ASYNC110
            await asyncio.sleep(0.3)
    await scene.tab.until(f"(document.querySelector('#blocks tr')?.id ?? {before!r}) !== {before!r}")
    await scene.tab.until("document.getElementById('banner')?.hidden")
    await scene.tab.go(f"{scene.url}/jobs/new/embed")
    assert await scene.tab.evaluate("document.getElementById('f-texts').value") == "typed before the restart"


async def click(scene: Scene, selector: str) -> None:
    """Click the first element of a selector where it is, with the mouse, once it is there."""
    where = f"""(() => {{ const one = document.querySelector({selector!r});
if (!one || document.readyState !== 'complete') return null;
one.scrollIntoView({{block: 'center'}}); const box = one.getBoundingClientRect();
return [box.x + box.width / 2, box.y + box.height / 2] }})()"""
    x, y = await scene.tab.until(where)
    for kind in ("mousePressed", "mouseReleased"):
        await scene.tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


async def test_by_mouse_from_the_printed_link_to_a_paid_chat_its_receipt_and_its_block(scene: Scene) -> None:
    await scene.tab.call("Network.clearBrowserCookies")
    await scene.tab.call("Emulation.clearDeviceMetricsOverride")
    link = (await scene.buyer.post("/api/v1/identity/sign-in-links")).json()["path"]
    await scene.tab.call("Page.navigate", url="about:blank")
    await scene.tab.go(f"{scene.url}{link}")
    await scene.tab.until("location.pathname === '/' && document.querySelector('h1')?.textContent === 'Overview'")
    assert "aitbc_" not in await scene.tab.evaluate(
        "location.href + JSON.stringify({...sessionStorage, ...localStorage})"
    )
    await scene.talker.beat()
    await click(scene, "a.main[href='/jobs/new']")
    await click(scene, "a[href='/jobs/new/chat']")
    await click(scene, "#f-messages")
    await scene.tab.call("Input.insertText", text="What does the cat do?")  # the one thing that is typed
    await click(scene, "button[value=quote]")
    await scene.tab.until("document.getElementById('quote')?.textContent.includes('It would cost')")
    await click(scene, "button[value=submit]")
    await scene.tab.until("location.pathname.startsWith('/jobs/job_')")
    [lease] = await scene.talker.poll(wait=30)
    output = {"message": {"role": "assistant", "content": "It sleeps."}, "finish_reason": "stop"}
    assert (await scene.talker.deliver(lease, output)).status_code == 200
    await scene.tab.until("document.getElementById('result')?.textContent.includes('It sleeps.')")
    await click(scene, "#top a[href^='/explorer/receipts/']")
    await scene.tab.until("document.getElementById('verdict')?.textContent.includes('genuine')")
    await click(scene, "a[href^='/explorer/blocks/']")
    await scene.tab.until("document.querySelector('h1')?.textContent.startsWith('Block')")
    assert lease["job"].removeprefix("job_") in await scene.tab.evaluate("document.getElementById('main').innerHTML")


async def test_two_tabs_follow_each_other_and_the_end_of_their_session(scene: Scene) -> None:
    await scene.as_(scene.owner)
    grant = {"account": scene.owner.principal.account, "amount": "1", "reason": "to try"}
    assert (await scene.admin.post("/api/v1/trading/deposits", grant)).status_code == 201
    body = {"kind": "command", "input": {"program": "nothing-runs-this"}, "max_price": "0.05"}
    job = (await scene.owner.post("/api/v1/ai/jobs", body)).json()["id"]
    await scene.tab.go(f"{scene.url}/jobs/{job}")
    async with beside(scene.tab) as other:
        await other.go(f"{scene.url}/jobs/{job}")
        await other.evaluate("document.querySelector(\"form[action$='/cancel'] button\").click()")
        await other.until("document.querySelector('h1')?.textContent.includes('canceled')")
        await scene.tab.call("Page.bringToFront")
        await scene.tab.until("document.querySelector('h1')?.textContent.includes('canceled')")
        await scene.tab.go(f"{scene.url}/")
        await scene.tab.until("page.times !== undefined")
        await other.evaluate("document.querySelector(\"form[action='/sign-out'] button\").click()")
        await other.until("location.pathname === '/sign-in'")
    await scene.tab.until("document.getElementById('banner')?.textContent.includes('session has ended')")
    await scene.tab.evaluate("document.querySelector('#banner a').click()")
    await scene.tab.until("location.pathname === '/sign-in'")

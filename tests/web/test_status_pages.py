"""The status page and who sees it, monitors and maintenance, usage, budgets and rate limits."""

import asyncio
import csv
import html
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from tests.app import running_app
from tests.scale import scaled
from tests.web.conftest import BROWSER, Market, person

STOCKED = False
ROWS = scaled(100, 10_000)
PAGE_BYTES_MAX = 60_000
"""However many rows there are, a page has no more."""


async def test_everybody_sees_the_status_where_the_operator_says_so_and_only_what_was_measured(market: Market) -> None:
    body = {"name": "shop", "kind": "push", "interval_seconds": 3600, "public": True}
    made = await market.operator.caller.post("/api/v1/monitoring/monitors", body)
    assert made.status_code == 201, made.text
    async with market.app.client() as browser:
        page = await browser.get("/status", headers=BROWSER)
    assert page.status_code == 200 and "shop" in page.text and "no data" in page.text
    assert "unsafe" not in page.headers["content-security-policy"] and "Sign in" in page.text
    whole = (await market.operator.get("/status")).text
    assert "You see what is not public too." in whole
    assert "You see what is not public too." not in (await market.buyer.get("/status")).text


async def test_nobody_else_sees_the_status_where_the_operator_does_not_say_so(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    async with running_app(new_database(), tmp_path) as app:
        async with app.client() as browser:
            away = await browser.get("/status", headers=BROWSER)
        assert (away.status_code, away.headers["location"]) == (303, "/sign-in?next=/status")
        buyer, operator = await person(app, await app.who("buyer")), await person(app, await app.admin())
        assert (await buyer.get("/status")).status_code == 403
        assert (await operator.get("/status")).status_code == 200


async def test_maintenance_is_planned_shown_to_everybody_and_called_off(market: Market) -> None:
    fields = {"title": "A new <b>disk</b>", "starts_at": "2099-01-01T10:00", "ends_at": "2099-01-01T11:00"}
    refused = await market.operator.send("/operator/monitors/maintenance", **(fields | {"ends_at": "2098-01-01T10:00"}))
    assert refused.status_code == 422 and 'role="alert"' in refused.text
    assert (await market.operator.send("/operator/monitors/maintenance", **fields)).status_code == 303
    assert "A new &lt;b&gt;disk" in (await market.operator.get("/operator/monitors")).text
    planned = (await market.operator.caller.get("/api/v1/monitoring/maintenance")).json()["data"]
    [window] = [one for one in planned if one["title"] == fields["title"]]
    assert window["starts_at"] == "2099-01-01T10:00:00Z"
    assert (await market.operator.send(f"/operator/monitors/maintenance/{window['id']}/cancel")).status_code == 303
    assert (await market.buyer.get("/operator/monitors")).status_code == 403


async def test_usage_adds_up_to_the_receipts(market: Market) -> None:
    receipts = await market.buyer.caller.get("/api/v1/trading/receipts", payer=market.buyer.caller.principal.account)
    prices = [one["price"] for one in receipts.json()["data"]]
    await market.app.service("monitoring").collect_usage()
    page = (await market.buyer.get("/account/usage?by=kind")).text
    assert f"for {len(prices)} job" in page
    assert "embed" in page and prices[0] in page
    assert market.buyer.caller.principal.key in (await market.buyer.get("/account/usage?by=key")).text
    assert "<svg" in (await market.buyer.get("/account/usage")).text
    assert (await market.buyer.get("/account/usage?by=nothing")).status_code == 422


async def test_a_budget_is_set_changed_and_removed(market: Market) -> None:
    path = "/account/limits"
    refused = await market.buyer.send(f"{path}/budgets", limit="much", period="day")
    assert refused.status_code == 422 and 'value="much"' in refused.text
    assert (await market.buyer.send(f"{path}/budgets", limit="250", period="day")).status_code == 303
    [budget] = (await market.buyer.caller.get("/api/v1/trading/budgets")).json()["data"]
    assert (await market.buyer.send(f"{path}/budgets/{budget['id']}/change", limit="260")).status_code == 303
    assert "260" in (await market.buyer.get(path)).text
    assert (await market.owner.send(f"{path}/budgets/{budget['id']}/remove")).status_code == 404
    assert (await market.buyer.send(f"{path}/budgets/{budget['id']}/remove")).status_code == 303
    assert "Change" not in (await market.buyer.get(path)).text


async def test_requests_are_limited_and_the_limit_is_taken_back(market: Market) -> None:
    path = "/account/limits"
    refused = await market.buyer.send(f"{path}/rates", concurrency="x")
    assert refused.status_code == 422
    assert (await market.buyer.send(f"{path}/rates", concurrency="1000")).status_code == 303
    found = (await market.buyer.caller.get("/api/v1/ai/rate-limits")).json()["data"]
    [limit] = [one for one in found if one["ended_at"] is None]
    assert (await market.buyer.send(f"{path}/rates/{limit['id']}/remove")).status_code == 303


async def test_a_service_class_is_sold_bought_and_withdrawn(market: Market) -> None:
    path = "/account/classes"
    fields = {"name": "page-gold", "work": "embed", "percent": "99.5", "finish_seconds": "60", "price": "1"}
    refused = await market.operator.send(f"{path}/declare", **(fields | {"percent": "much"}))
    assert refused.status_code == 422 and 'value="much"' in refused.text and "for example 99.5" in refused.text
    assert "Sell a class" not in (await market.buyer.get(path)).text
    assert (await market.buyer.send(f"{path}/declare", **fields)).status_code == 403
    assert (await market.operator.send(f"{path}/declare", **fields)).status_code == 303
    page = (await market.buyer.get(path)).text
    assert "99.5 % of your embed jobs succeed within 60 s" in page and "Nothing yet." in page
    once = {"service_class": "page-gold", "once": "page-gold-1"}
    assert [(await market.buyer.send(f"{path}/buy", **once)).status_code for _ in range(2)] == [303, 303]
    [bought] = (await market.buyer.caller.get("/api/v1/monitoring/class-purchases")).json()["data"]
    assert f'id="{bought["id"]}"' in (await market.buyer.get(path)).text
    renewal = f"{path}/bought/{bought['id']}/renewal"
    assert (await market.buyer.send(renewal, renews="yes")).status_code == 303
    assert "Stop renewing" in (await market.buyer.get(path)).text
    assert (await market.owner.send(renewal, renews="no")).status_code == 404
    assert (await market.operator.send(f"{path}/page-gold/withdraw")).status_code == 303
    refused = await market.buyer.send(f"{path}/buy", service_class="page-gold", once="page-gold-2")
    assert refused.status_code == 404 and "not sold any more" in refused.text


async def test_a_long_statement_is_read_page_by_page_and_whole_as_a_file(market: Market) -> None:
    who = await person(market.app, await market.app.who("busy"))
    to, trading = who.caller.principal.account, market.app.service("trading")
    for _ in range(ROWS // 50):
        await asyncio.gather(
            *(
                trading.deposits.deposit(market.app.runtime.operator, to, 1_000, "one of many", IdempotencyKey.NONE)
                for _ in range(50)
            )
        )
    seen: list[str] = []
    path: str | None = "/account/statement"
    while path is not None:
        page = (await who.get(path)).text
        assert len(page) < PAGE_BYTES_MAX
        seen += re.findall(r'/explorer/transactions/(txn_\w+)"', page)
        further = re.search(r'href="(/account/statement\?[^"]*cursor=[^"]*)"', page)
        path = html.unescape(further[1]) if further else None
    assert len(seen) == len(set(seen)) == ROWS
    lines = list(csv.DictReader((await who.get("/account/statement/csv")).text.splitlines()))
    assert [line["transaction"] for line in lines] == seen
    assert all(later["before"] == earlier["after"] for later, earlier in pairwise(lines))
    blocks = (await who.get("/explorer/transactions")).text
    assert len(blocks) < PAGE_BYTES_MAX

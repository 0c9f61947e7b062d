"""The pages without scripts: who sees what, what forms do, and that a page is never stronger than its key."""

import asyncio
import hashlib
import html
import json
import re
import shlex
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.identity.sessions import SIGN_IN_PATH
from aitbc.server.config.placement import LEGACY_COORDINATOR_PREFIX, LEGACY_PREFIXES
from aitbc.web.error_pages import NOT_OURS
from aitbc.web.pages.sign_in import own_path
from aitbc.web.pages.trades import NOUNS
from aitbc.web.pages.trading import line_of
from aitbc.web.site import PAGES
from tests.web.conftest import BROWSER, Market, person

FOR_ALL: tuple[str, ...] = (
    "/",
    "/jobs",
    "/jobs/new",
    "/miners",
    "/miners/enrol",
    "/miners/approve",
    "/explorer",
    "/explorer?empty=yes",
)
FOR_ALL += ("/explorer/transactions", "/explorer/receipts", "/explorer/verify", "/explorer/blocks/0")
FOR_ALL += ("/account", "/account/statement", "/account/keys", "/account/sessions", "/account/webhooks")
FOR_ALL += ("/market", "/market?q=vram+%3E%3D+1GB&sort=-price", "/market/own", "/market/bookings", "/trades")
FOR_ALL += ("/market/book", "/market/exchange", "/market/exchange/orders")
FOR_ALL += tuple(f"/trades/{noun}" for noun in (*NOUNS, "new-request", "new-offer"))
FOR_ALL += ("/agents", "/agents?own=yes", "/agents/runs", "/plugins", "/plugins?q=half&category=other", "/plugins/own")
FOR_ALL += ("/agents/edges", "/agents/deployments")
FOR_ALL += ("/proposals", "/proposals/new", "/proposals/parameters", "/proposals/stake", "/proposals/treasury")
FOR_ALL += ("/account/usage", "/account/usage?by=kind&days=7", "/account/limits", "/account/classes", "/status")
FOR_ALL += ("/graphs", "/graphs?state=paused", "/graphs/new", "/studies", "/studies/new")
FORMS = ("/jobs/new/embed", "/jobs/new/ocr", "/jobs/new/chat", "/jobs/new/command")
FOR_OPERATORS: tuple[str, ...] = ("/operator", "/operator/events", "/operator/audit", "/operator/accounts")
FOR_OPERATORS += ("/plugins/installed", "/operator/monitors", "/account/usage?by=account")
FOR_OPERATORS += ("/operator/settings", "/operator/database", "/operator/log-levels")


async def receipt_of(market: Market) -> dict[str, Any]:
    """The newest receipt."""
    found = (await market.buyer.caller.get("/api/v1/trading/receipts", limit=1)).json()["data"]
    return dict(found[0])


async def details(market: Market) -> list[str]:
    """A page of each kind of thing."""
    receipt = await receipt_of(market)
    return [
        f"/jobs/{receipt['job']}",
        f"/explorer/receipts/{receipt['id']}",
        f"/explorer/transactions/{receipt['transaction']}",
        f"/explorer/transactions?reference={receipt['job']}",
        f"/explorer/addresses/{receipt['payer']}",
        f"/explorer/receipts?miner={receipt['miner']}",
        f"/jobs/new/embed?again={receipt['job']}",
        *market.stock.pages,
    ]


async def test_everybody_sees_their_pages_and_nothing_of_a_key(market: Market) -> None:
    pages = [*FOR_ALL, *FORMS]
    for who, more in (
        (market.buyer, await details(market)),
        (market.owner, [f"/miners/{market.miner.id}"]),
        (market.operator, [*FOR_OPERATORS, f"/miners/{market.miner.id}", *await details(market)]),
    ):
        [token] = who.browser.cookies.values()
        for path in [*pages, *more]:
            answer = await who.get(path)
            assert answer.status_code == 200, (path, answer.text[:2000])
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["cache-control"] == "no-store"
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy and "default-src 'none'" in policy
            assert who.caller.secret not in answer.text and token not in answer.text, path
            assert not re.search(r"<[^>]+ style=|<script>|<style|<[^>]+\son[a-z]+=", answer.text), path
            assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text), path


async def test_what_a_key_may_not_see_is_refused_by_the_api(market: Market) -> None:
    job = (await receipt_of(market))["job"]
    for path, status in (
        ("/operator", 403),
        ("/operator/audit", 403),
        (f"/jobs/{job}", 404),
        (f"/jobs/{job}/output", 404),
        (f"/jobs/new/embed?again={job}", 404),
        ("/jobs/no-such", 404),
        ("/jobs/new/no-such", 404),
        ("/jobs/job%3Fx", 404),
        ("/explorer/blocks/99999", 404),
        ("/explorer/blocks/x", 404),
        ("/miners/mnr_01k0000000000000000000000a", 404),
        ("/explorer?nothing=1", 422),
        ("/explorer?cursor=x", 422),
    ):
        answer = await market.owner.get(path)
        assert answer.status_code == status, (path, answer.status_code)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "<h1>" in answer.text


async def test_a_key_with_few_scopes_sees_few_pages(market: Market) -> None:
    narrow = await person(market.app, await market.app.who("narrow", scopes=["self:read"]))
    assert (await narrow.get("/")).headers["location"] == "/account"
    page = (await narrow.get("/account")).text
    assert "Statement" not in page and "Explorer" not in page and "self:read" in page
    for path in ("/jobs", "/explorer", "/miners", "/account/keys", "/operator"):
        assert (await narrow.get(path)).status_code == 403
    assert (await narrow.get("/live")).status_code == 403


async def test_who_is_signed_out_is_led_to_the_sign_in_and_back(market: Market) -> None:
    async with market.app.client() as browser:
        browser.headers.update(BROWSER)
        answer = await browser.get("/jobs?kind=embed")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/jobs%3Fkind%3Dembed")
        form = await browser.get(answer.headers["location"])
        assert form.status_code == 200 and 'value="/jobs?kind=embed"' in form.text
        fields = {"code": market.buyer.caller.secret, "next": "/jobs?kind=embed"}
        answer = await browser.post("/sign-in", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?kind=embed")
        cookie = answer.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/")) and "Secure" not in cookie
        assert market.buyer.caller.secret not in cookie
        over_tls = await browser.post("https://localhost/sign-in", data=fields)
        assert over_tls.headers["set-cookie"].startswith("__Host-") and "; Secure" in over_tls.headers["set-cookie"]


async def test_a_session_is_no_way_into_the_api_but_through_its_pages(market: Market) -> None:
    [token] = market.buyer.browser.cookies.values()
    [name] = market.buyer.browser.cookies.keys()
    async with market.app.client() as program:
        answer = await program.get("/api/v1/ai/jobs", headers={"Cookie": f"{name}={token}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("next_page", ["//evil.example", "https://evil.example", "/\\evil.example", "x", "/\n", ""])
def test_the_sign_in_leads_to_no_other_server(next_page: str) -> None:
    assert own_path(next_page) == "/"
    assert own_path("/jobs?state=failed") == "/jobs?state=failed"


async def test_wrong_keys_are_refused_and_slowed_down(market: Market) -> None:
    async with market.app.client() as browser:
        browser.headers.update(BROWSER)
        answers = [await browser.post("/sign-in", data={"code": "aitbc_live_x", "next": "/"}) for _ in range(25)]
    assert answers[0].status_code == 401 and "opens nothing" in answers[0].text
    assert "aitbc_live_x" not in answers[0].text
    assert answers[-1].status_code == 429
    await person(market.app, market.buyer.caller)  # who comes from the same address with a right key gets in


async def test_a_one_time_link_signs_in_once(market: Market) -> None:
    link = (await market.buyer.caller.post("/api/v1/identity/sign-in-links")).json()
    assert link["path"] == f"{SIGN_IN_PATH}#{link['code']}"
    async with market.app.client() as browser:
        browser.headers.update(BROWSER)
        assert (await browser.post("/sign-in", data={"code": link["code"], "next": "/"})).status_code == 303
        assert (await browser.get("/account")).status_code == 200
        assert (await browser.post("/sign-in", data={"code": link["code"], "next": "/"})).status_code in (401, 429)


async def test_signing_out_ends_the_session_and_a_session_can_be_ended_from_another(market: Market) -> None:
    first, second = [await person(market.app, market.buyer.caller) for _ in range(2)]
    [token] = first.browser.cookies.values()
    assert (await first.send("/sign-out")).headers["location"] == "/sign-in"
    first.browser.cookies.set(next(iter(second.browser.cookies.keys())), token)
    assert (await first.get("/account")).status_code == 303
    page = (await second.get("/account/sessions")).text
    ends = re.findall(r"/account/sessions/(sess_\w+)/end", page)
    assert len(ends) >= 2
    for session in ends:
        assert (await second.send(f"/account/sessions/{session}/end")).status_code == 303
    assert (await second.get("/account")).status_code == 303
    market.buyer.browser.cookies.clear()
    market.buyer.browser.cookies.update((await person(market.app, market.buyer.caller)).browser.cookies)


def routes(method: str) -> list[str]:
    """Every path that pages answer with this method, with something in place of each id."""
    found = []
    for controller in PAGES:
        for handler in vars(controller).values():
            if getattr(handler, "http_methods", None) == {method}:
                for path in handler.paths:
                    base = vars(controller).get("path", "")
                    found.append(re.sub(r"\{[^}]*\}", "x", f"{base}{path}").rstrip("/") or "/")
    return sorted(found)


async def test_no_page_opens_without_a_session(market: Market) -> None:
    assert len(routes("GET")) >= 30
    async with market.app.client() as browser:
        for path in routes("GET"):
            if path in ("/sign-in", "/assets/x", "/status"):
                continue
            answer = await browser.get(path, headers=BROWSER)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
            program = await browser.get(path, headers={"Authorization": f"Bearer {market.buyer.caller.secret}"})
            assert program.status_code == 401, f"{path} opens to a key, which is for the API"


async def test_no_form_is_taken_from_another_page(market: Market) -> None:
    assert len(routes("POST")) >= 15
    for path in routes("POST"):
        if path == "/sign-in":
            continue
        target = path.replace("/account/webhooks/x/x", "/account/webhooks/x/test")
        for csrf in ("", "0" * 32, market.owner.csrf):
            answer = await market.buyer.browser.post(target, data={"csrf": csrf})
            assert answer.status_code == 403 and "form" in answer.text, (target, answer.status_code)
        answer = await market.buyer.browser.post(target, data={}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        signed_out = await market.app.client().post(target, data={"csrf": ""}, headers=BROWSER)
        assert signed_out.status_code == 303 and signed_out.headers["location"] == "/sign-in"


async def test_a_job_is_quoted_submitted_canceled_and_run_again_by_forms(market: Market) -> None:
    page = (await market.buyer.get("/jobs/new/embed")).text
    once = re.search(r'name="once" value="(\w+)"', page)
    assert once is not None
    fields = {"in:texts": "red\r\nblue", "max_price": "0.01", "once": once[1], "priority": "high"}
    quoted = await market.buyer.send("/jobs/new/embed", **fields, do="quote")
    assert quoted.status_code == 200 and "It would cost 0.0000007" in quoted.text and ">\nred\nblue<" in quoted.text
    submitted = await market.buyer.send("/jobs/new/embed", **fields, do="submit")
    again = await market.buyer.send("/jobs/new/embed", **fields, do="submit")
    assert submitted.status_code == again.status_code == 303
    assert submitted.headers["location"] == again.headers["location"]  # a double click buys once
    path = submitted.headers["location"].partition("?")[0]
    page = (await market.buyer.get(path)).text
    assert "queued" in page and "Cancel" in page and "red" in page
    assert (await market.buyer.send(f"{path}/cancel")).headers["location"] == path
    assert "canceled" in (await market.buyer.get(path)).text
    refused = await market.buyer.send(f"{path}/stop")
    assert refused.status_code == 409
    filled = (await market.buyer.get(f"/jobs/new/embed?again={path.rpartition('/')[2]}")).text
    assert ">\nred\nblue<" in filled and 'value="0.01"' in filled


async def test_what_is_wrong_with_a_job_is_said_at_its_field_and_nothing_is_lost(market: Market) -> None:
    for kind, fields, word in (
        ("embed", {"in:texts": "x", "in:dimensions": "9999", "max_price": "0.01"}, "dimensions"),
        ("embed", {"in:texts": "x", "in:dimensions": "many", "max_price": "0.01"}, "Expected a whole number"),
        ("embed", {"in:texts": "kept <b>", "max_price": "much"}, "kept &lt;b&gt;"),
        ("embed", {"in:texts": "kept <b>", "max_price": "1000000"}, "balance does not cover"),
        ("chat", {"in:messages": "hi", "in:messages:earlier": "[", "max_price": "1"}, "Expected JSON"),
        ("chat", {"max_price": "1"}, "messages"),
        ("command", {"in:program": "no such thing!", "max_price": "1"}, "program"),
    ):
        answer = await market.buyer.send(f"/jobs/new/{kind}", **fields, do="submit")
        assert 400 <= answer.status_code < 500, (kind, fields)
        assert word in answer.text and 'role="alert"' in answer.text, (kind, fields)


async def test_a_picture_is_uploaded_kept_over_a_quote_and_shown(market: Market) -> None:
    picture = (Path(__file__).parent / "word.png").read_bytes()
    files = {"file": ("word.png", picture, "image/png")}
    data = {"csrf": market.buyer.csrf, "max_price": "0.05", "do": "quote", "once": "u1"}
    quoted = await market.buyer.browser.post("/jobs/new/ocr", data=data, files=files)
    assert quoted.status_code == 200, quoted.text[:500]
    kept = html.unescape(re.search(r'name="in:image:kept" value="([^"]+)"', quoted.text)[1])  # type: ignore[index]
    sent = await market.buyer.send("/jobs/new/ocr", **{"in:image:kept": kept}, max_price="0.05", do="submit", once="u1")
    assert sent.status_code == 303, sent.text[:500]
    shown = await market.buyer.get(f"/artifacts/{json.loads(kept)['artifact']}")
    assert shown.content == picture and shown.headers["content-type"].startswith("image/png")
    foreign = await market.owner.get(f"/artifacts/{json.loads(kept)['artifact']}")
    assert foreign.status_code == 404
    await market.buyer.send(f"{sent.headers['location'].partition('?')[0]}/cancel")


async def test_what_people_write_is_inert_on_every_page(market: Market) -> None:
    nasty = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \u05e9\u05dc\u05d5\u05dd \u202e \u732b"
    text = {"texts": [nasty, "b", "c"]}
    job = (
        await market.buyer.caller.post("/api/v1/ai/jobs", {"kind": "embed", "input": text, "max_price": "0.05"})
    ).json()
    [lease] = await market.miner.poll(wait=10)
    await market.miner.deliver(lease)
    for path in (f"/jobs/{job['id']}", f"/jobs/new/embed?again={job['id']}", "/jobs"):
        page = (await market.buyer.get(path)).text
        assert "<script>alert" not in page and "<img src=x" not in page, path
    assert "&lt;script&gt;alert(1)" in (await market.buyer.get(f"/jobs/{job['id']}")).text
    found = await market.buyer.get("/explorer/search?q=%3Cscript%3Ealert(1)%3C/script%3E")
    assert found.status_code == 404 and "<script>alert" not in found.text


async def test_search_goes_straight_to_the_thing(market: Market) -> None:
    receipt = await receipt_of(market)
    block = (await market.buyer.caller.get("/api/v1/trading/blocks", limit=1)).json()["data"][0]
    for query, place in (
        (receipt["id"], f"/explorer/receipts/{receipt['id']}"),
        (receipt["job"], f"/jobs/{receipt['job']}"),
        (receipt["transaction"], f"/explorer/transactions/{receipt['transaction']}"),
        (receipt["payer"], f"/explorer/addresses/{receipt['payer']}"),
        (receipt["miner"], f"/explorer/receipts?miner={receipt['miner']}"),
        (str(block["height"]), f"/explorer/blocks/{block['height']}"),
        (block["hash"], f"/explorer/blocks/{block['height']}"),
        (receipt["job"].replace("job_", "hold_"), f"/explorer/receipts/{receipt['id']}"),
        ("", "/explorer"),
    ):
        answer = await market.buyer.get(f"/explorer/search?q={query}")
        assert (answer.status_code, answer.headers.get("location")) == (303, place), query
        assert (await market.buyer.get(place)).status_code == 200
    owners = await market.owner.get(f"/explorer/search?q={receipt['miner']}")
    assert owners.headers["location"] == f"/miners/{receipt['miner']}"
    foreign = await market.owner.get(f"/explorer/search?q={receipt['job']}")
    assert foreign.headers["location"] == f"/explorer/receipts/{receipt['id']}"  # the job itself is another's


async def test_a_statement_adds_up_and_is_a_file(market: Market) -> None:
    lines = (await market.buyer.get("/account/statement/csv")).text.splitlines()
    entries = (
        await market.buyer.caller.get(
            f"/api/v1/trading/accounts/{market.buyer.caller.principal.account}/entries", limit=200
        )
    ).json()["data"]
    assert len(lines) == len(entries) + 1
    assert lines[1].split(",")[5] == entries[0]["after"]
    assert line_of(["=1+1", "-0.05", "@x", None, "a,b"]) == b"'=1+1,-0.05,'@x,,\"a,b\"\r\n"


async def test_keys_are_made_shown_once_and_revoked(market: Market) -> None:
    made = await market.buyer.send("/account/keys", name="by page", kind="live", days="3", **{"scope:jobs:read": "1"})
    assert made.status_code == 200
    secret = re.search(r"aitbc_live_\w{39}", made.text)
    assert secret is not None
    keys = (await market.buyer.caller.get("/api/v1/identity/keys")).json()["data"]
    assert (keys[0]["name"], keys[0]["scopes"]) == ("by page", ["jobs:read"])
    page = (await market.buyer.get("/account/keys")).text
    assert secret[0] not in page and "by page" in page
    rotated = await market.buyer.send(f"/account/keys/{keys[0]['id']}/rotate")
    assert rotated.status_code == 200 and "aitbc_live_" in rotated.text
    assert (await market.buyer.send(f"/account/keys/{keys[0]['id']}/revoke")).status_code == 303
    refused = await market.buyer.send("/account/keys", name="?", kind="admin")
    assert 400 <= refused.status_code < 500 and 'role="alert"' in refused.text


async def test_a_webhook_is_made_and_taken_away(market: Market) -> None:
    refused = await market.buyer.send("/account/webhooks", url="http://127.0.0.1:1/")
    assert 400 <= refused.status_code < 500 and 'role="alert"' in refused.text
    made = await market.buyer.send("/account/webhooks", url="https://hooks.example.org/x", description="mine")
    if made.status_code == 200:
        [endpoint] = re.findall(r"/account/webhooks/(hook_\w+)/delete", made.text)
        assert (await market.buyer.send(f"/account/webhooks/{endpoint}/disable")).status_code == 303
        assert "disabled" in (await market.buyer.get("/account/webhooks")).text
        assert (await market.buyer.send(f"/account/webhooks/{endpoint}/delete")).status_code == 303
        assert endpoint not in (await market.buyer.get("/account/webhooks")).text


async def test_a_miner_is_drained_resumed_and_another_is_admitted(market: Market) -> None:
    path = f"/miners/{market.miner.id}"
    assert (await market.owner.send(f"{path}/drain")).headers["location"] == path
    page = (await market.owner.get(path)).text
    assert "draining" in page and "Resume" in page and "NVIDIA H100" in page
    assert (await market.owner.send(f"{path}/resume")).status_code == 303
    await market.miner.beat()
    assert (await market.buyer.send(f"{path}/drain")).status_code == 404
    token = await market.owner.send("/miners/enrol")
    assert token.status_code == 200 and re.search(r"aitbc_enrol_\w{39}", token.text)


async def test_a_machine_that_shows_a_code_is_approved_by_page_and_no_other(market: Market) -> None:
    question = {"token": new_key("enrol"), "public_key": Key.generate().public, "name": "the <b>attic"}
    async with market.app.client() as machine:
        asked = (await machine.post("/api/v1/gpu/enrolment-codes", json=question)).json()
    assert 'name="code"' in (await market.owner.get("/miners/approve")).text
    page = (await market.owner.get(asked["path"])).text
    assert "the &lt;b&gt;attic" in page and asked["fingerprint"] in page and "Deny" in page
    assert (await market.owner.get("/miners/approve?code=nothing")).status_code == 404
    approved = await market.owner.send("/miners/approve", code=asked["code"], do="approve")
    assert approved.status_code == 200 and "appears among" in approved.text
    late = await market.buyer.send("/miners/approve", code=asked["code"], do="deny")
    assert late.status_code == 409 and 'role="alert"' in late.text


async def test_programs_get_problems_and_people_get_pages(market: Market) -> None:
    async with market.app.client() as client:
        for path in ("/nothing", "/api/v1/nothing", "/gpu/nothing", "/coordinator/nothing", "/jobs/nothing/at/all"):
            program = await client.get(path)
            assert program.headers["content-type"] == "application/problem+json", path
            person_ = await client.get(path, headers=BROWSER)
            is_page = path.partition("/")[2].partition("/")[0] not in NOT_OURS
            assert (person_.headers["content-type"].startswith("text/html")) == is_page, path
            assert person_.status_code == program.status_code == 404
        assert (await client.get("/jobs")).json()["code"] == "signed_out"


async def test_no_page_stands_in_the_way_of_a_path_that_programs_call(market: Market) -> None:
    taken = {*LEGACY_PREFIXES, LEGACY_COORDINATOR_PREFIX, "api", "docs", "healthz", "readyz", "version", "metrics"}
    assert taken <= NOT_OURS
    for controller in PAGES:
        base = vars(controller).get("path", "")
        for handler in vars(controller).values():
            for path in getattr(handler, "paths", ()):
                first = f"{base}{path}".strip("/").partition("/")[0]
                assert first not in taken, (controller, path)


async def test_a_page_says_what_does_the_same_and_that_works(market: Market) -> None:
    receipt = await receipt_of(market)
    page = html.unescape((await market.buyer.get(f"/explorer/receipts/{receipt['id']}")).text)
    [curl] = re.findall(r"curl -sS .*$", page, re.MULTILINE)
    words = shlex.split(curl)
    target = words[2].removeprefix("http://localhost")
    assert words[0:2] == ["curl", "-sS"] and words[3:5] == ["-H", "Authorization: Bearer $AITBC_API_KEY"]
    assert (await market.buyer.caller.get(target)).json()["receipt"]["id"] == receipt["id"]


async def test_every_command_that_a_page_names_exists(market: Market) -> None:
    named: set[tuple[str, ...]] = set()
    pages = [(market.operator, path) for path in (*FOR_ALL, *FOR_OPERATORS, *FORMS, *await details(market))]
    for who, path in [*pages, (market.owner, f"/miners/{market.miner.id}")]:
        page = html.unescape((await who.get(path)).text)
        for line in re.findall(r"^aitbc .*$|(?<=>)aitbc [^<\n]*", page, re.MULTILINE):
            words = shlex.split(line)[1:]
            named.add(tuple(words[:2] if len(words) > 1 and words[1].isalpha() and words[1].islower() else words[:1]))
    code = (
        "import sys, json, typer\nfrom aitbc_cli.tree import NOUNS, _loaded\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    noun = _loaded(words[0])\n"
        "    assert len(words) == 1 or not hasattr(noun, 'commands') or words[1] in noun.commands, words\n"
    )
    command = [sys.executable, "-c", code, json.dumps(sorted(named))]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]
    assert len(named) > 15


async def test_assets_never_change_under_a_name(market: Market) -> None:
    from aitbc.web.assets import ASSETS

    total = 0
    async with market.app.client() as client:
        for path in ASSETS.values():
            answer = await client.get(path)
            assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
            total += len(zlib.compress(answer.content, 9)) + 18
        assert (await client.get("/assets/app-000000000000.css")).status_code == 404
    assert total < 150 * 1024


def test_what_others_released_is_unchanged() -> None:
    folder = Path(__file__).parent / "vendor"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name

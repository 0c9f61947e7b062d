"""What forms of the market's, trades', agents', plugins' and governance's pages do, and what they show when they are refused."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import httpx

from aitbc.kernel.primitives.clock import now
from tests.journeys.hand_miner import HandMiner
from tests.web.conftest import Market, Person
from tests.web.stock import GRAPH, PAIR, STUDY


def id_in(answer: httpx.Response, base: str) -> str:
    """The id at the end of where an answer leads."""
    assert answer.status_code == 303, re.sub(r"<[^>]+>|\s+", " ", answer.text)[-900:]
    found = re.fullmatch(rf"{base}/([\w.-]+)(?:\?.*)?", answer.headers["location"])
    assert found is not None, answer.headers["location"]
    return found[1]


async def api(who: Person, path: str) -> dict[str, Any]:
    """What the API says of a thing."""
    answer = await who.caller.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refused(answer: httpx.Response, status: int = 422) -> str:
    """The text of a page that says why nothing was done."""
    assert answer.status_code == status, (answer.status_code, answer.headers.get("location"))
    assert 'role="alert"' in answer.text
    return answer.text


async def test_a_filter_finds_offers_or_says_what_is_wrong_with_it(market: Market) -> None:
    await market.stock.miner.beat()
    async with asyncio.timeout(30):
        while market.stock.work not in (every := (await market.buyer.get("/market")).text):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert market.stock.device in every and market.stock.work in every
    gpus = (await market.buyer.get("/market?q=sells+%3D+device")).text
    assert market.stock.device in gpus and market.stock.work not in gpus
    wrong = refused(await market.buyer.get("/market?q=vram+%3E%3E+1"))
    assert "vram &gt;&gt; 1" in wrong


async def test_an_offer_is_quoted_booked_once_and_given_back(market: Market) -> None:
    path = f"/market/offers/{market.stock.device}"
    assert "Book it" in (await market.buyer.get(path)).text and "Book it" not in (await market.owner.get(path)).text
    wish = {"hours": "0.5", "max_price": "1", "label": "<b>mine</b>", "once": "book-once-0123456789"}
    before = await api(market.buyer, f"trading/accounts/{market.buyer.caller.principal.account}")
    quote = await market.buyer.send(f"{path}/book", **wish, do="quote")
    assert quote.status_code == 200 and "It would cost 0.125 AITBC at most" in quote.text
    assert before == await api(market.buyer, f"trading/accounts/{market.buyer.caller.principal.account}")
    assert "Expected hours" in refused(await market.buyer.send(f"{path}/book", **(wish | {"hours": "x"}), do="book"))
    assert 'value="0.01"' in refused(
        await market.buyer.send(f"{path}/book", **(wish | {"max_price": "0.01"}), do="book"), 409
    )
    booked = [await market.buyer.send(f"{path}/book", **wish, do="book") for _ in range(2)]
    [booking] = {id_in(answer, "/market/bookings") for answer in booked}
    page = (await market.buyer.get(f"/market/bookings/{booking}")).text
    assert "&lt;b&gt;mine&lt;/b&gt;" in page and "<b>mine" not in page and "Give it back" in page
    assert "It gives no machine: its miner does not say" in page
    rig = {
        "kinds": ["embed"],
        "device": "gpu",
        "gpu_models": ["NVIDIA H100 80GB HBM3"],
        "vram_mib": 81_559,
        "machine": {"available": True, "images": ["python"]},
    }
    device = (await api(market.buyer, f"marketplace/bookings/{booking}"))["miner"]
    assert device == market.stock.miner.id
    told = await market.stock.miner.client.put(f"/api/v1/gpu/miners/{device}/capabilities", json=rig)
    assert told.status_code == 200, told.text
    page = (await market.buyer.get(f"/market/bookings/{booking}")).text
    assert f"aitbc booking shell {booking}" in page and f"{booking}/sessions" in page
    assert f"aitbc booking shell {booking}" not in (await market.owner.get(f"/market/bookings/{booking}")).text
    assert "Give it back" not in (await market.owner.get(f"/market/bookings/{booking}")).text
    assert f"?booking={booking}" in (await market.buyer.get(f"/jobs/new?booking={booking}")).text
    assert f'value="{booking}"' in (await market.buyer.get(f"/jobs/new/ocr?booking={booking}")).text
    proposed = await market.owner.send(f"/market/bookings/{booking}/price", price_hour="0.2")
    assert id_in(proposed, "/market/bookings") == booking
    assert "instead of 0.25" in (await market.buyer.get(f"/market/bookings/{booking}")).text
    answered = await market.buyer.send(f"/market/bookings/{booking}/answer", price_hour="0.2", do="accept")
    assert id_in(answered, "/market/bookings") == booking
    assert (await api(market.buyer, f"marketplace/bookings/{booking}"))["price_hour"] == "0.2"
    assert (await market.operator.get(f"/market/bookings/{booking}")).status_code == 200
    assert id_in(await market.buyer.send(f"/market/bookings/{booking}/end"), "/market/bookings") == booking
    assert (await api(market.buyer, f"marketplace/bookings/{booking}"))["state"] in ("ending", "ended")
    assert (await market.buyer.send(f"/market/bookings/{booking}/nothing")).status_code == 404


async def test_assets_are_exchanged_by_forms_and_the_book_says_what_rests(market: Market) -> None:
    pair = f"/market/exchange/pairs/{PAIR}"
    wish = {"side": "buy", "quantity": "1", "price": "0.5", "label": "<b>mine</b>", "once": "order-once-0123456789"}
    wrong = refused(await market.buyer.send(f"{pair}/orders", **(wish | {"quantity": "x"})))
    assert 'value="x"' in wrong and "&lt;b&gt;mine" in wrong
    refused(await market.buyer.send(f"{pair}/orders", **(wish | {"quantity": "100000", "once": ""})), 402)
    placed = [await market.buyer.send(f"{pair}/orders", **wish) for _ in range(2)]
    [order] = {id_in(answer, "/market/exchange/orders") for answer in placed}
    page = (await market.buyer.get(pair)).text
    assert order in page and "&lt;b&gt;mine" in page and ">0.5<" in page
    others = (await market.owner.get(pair)).text
    assert order not in others and ">0.5<" in others
    assert (await market.owner.get(f"/market/exchange/orders/{order}")).status_code == 404
    bought = await market.buyer.send(f"{pair}/orders", side="buy", quantity="1")
    page = (await market.buyer.get(f"/market/exchange/orders/{id_in(bought, '/market/exchange/orders')}")).text
    assert "came last" in page and "At any price" in page
    overview = (await market.buyer.get("/market/exchange")).text
    assert PAIR in overview and 'id="asset-GOLD"' in overview and 'id="asset-AITBC"' in overview
    cancel = f"/market/exchange/orders/{order}/cancel"
    assert id_in(await market.buyer.send(cancel), "/market/exchange/orders") == order
    assert order in (await market.buyer.get("/market/exchange/orders?state=canceled")).text


async def test_a_bid_and_a_request_are_placed_answered_and_taken_back_by_forms(market: Market) -> None:
    wish = {
        "filter": f"miner = {market.stock.miner.id}",
        "hours": "1",
        "price_hour": "0.1",
        "once": "bid-once-0123456789",
    }
    assert "Expected hours" in refused(await market.buyer.send("/market/book", **(wish | {"hours": "x"})))
    [bid] = {id_in(await market.buyer.send("/market/book", **wish), "/market/book") for _ in range(2)}
    book = (await market.owner.get("/market/book")).text
    assert bid in book and market.stock.bid in book and "a test" not in book
    assert "a test" in (await market.buyer.get("/market/book")).text
    until = (now() + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M")
    asked = {**wish, "price_hour": "0.3", "does": "request", "deadline": until, "once": "request-once-0123456789"}
    request = id_in(await market.buyer.send("/market/book", **asked), "/market/book")
    assert "Ask a price for it" in (await market.owner.get(f"/market/book/{request}")).text
    path = f"/market/book/{request}/ask"
    refused(await market.owner.send(path, offer=market.stock.device, price_hour="0.4"), 409)
    answered = await market.owner.send(path, offer=market.stock.device, price_hour="0.2")
    assert id_in(answered, "/market/book") == request
    assert "What is asked" in (await market.buyer.get(f"/market/book/{request}")).text
    for one in (bid, request):
        assert id_in(await market.buyer.send(f"/market/book/{one}/cancel"), "/market/book") == one
        assert (await api(market.buyer, f"marketplace/bids/{one}"))["state"] == "canceled"


async def test_an_owner_makes_reprices_and_withdraws_an_offer(market: Market) -> None:
    miner = await HandMiner.enrol(market.app, market.owner.caller)
    await miner.beat()
    fields = {"miner": miner.id, "sells": "work", "kind": "embed", "price": "0.002"}
    assert 'value="abc"' in refused(await market.owner.send("/market/own", **(fields | {"price": "abc"})))
    assert "no miner" in (await market.buyer.get("/market/own")).text
    made = id_in(await market.owner.send("/market/own", **fields), "/market/offers")
    changed = await market.owner.send(f"/market/offers/{made}/price", version="1", price="0.003")
    assert id_in(changed, "/market/offers") == made
    assert (await api(market.owner, f"marketplace/offers/{made}"))["price"] == "0.003"
    assert (await market.buyer.send(f"/market/offers/{made}/withdraw")).status_code in (403, 404)
    assert id_in(await market.owner.send(f"/market/offers/{made}/withdraw"), "/market/offers") == made
    assert (await api(market.owner, f"marketplace/offers/{made}"))["state"] == "withdrawn"


async def test_a_trade_goes_from_a_preview_to_a_payment(market: Market) -> None:
    asked = {
        "trade_type": "compute_resources",
        "title": "A GPU",
        "budget_max": "2",
        "negotiable": "1",
        "once": "ask-once-0123456",
    }
    before = len((await api(market.buyer, "trading/requests"))["data"])
    preview = await market.buyer.send("/trades/new-request", **asked, do="preview")
    assert preview.status_code == 200 and "would fit" in preview.text
    assert len((await api(market.buyer, "trading/requests"))["data"]) == before
    wrong = asked | {"specifications": "vram_gb"}
    assert "NAME=VALUE" in refused(await market.buyer.send("/trades/new-request", **wrong, do="ask"))
    request = id_in(await market.buyer.send("/trades/new-request", **asked, do="ask"), "/trades/requests")
    found = (await api(market.buyer, f"trading/requests/{request}/matches"))["data"]
    [match] = {one["id"] for one in found if one["offer"] == market.stock.trade_offer}
    begun = await market.buyer.send(f"/trades/matches/{match}/negotiations", price="0.9", strategy="balanced")
    negotiation = id_in(begun, "/trades/negotiations")
    assert "your turn" in (await market.owner.get(f"/trades/negotiations/{negotiation}")).text
    assert "your turn" not in (await market.buyer.get(f"/trades/negotiations/{negotiation}")).text
    refused(await market.buyer.send(f"/trades/negotiations/{negotiation}/accept"), 409)
    agreement = id_in(await market.owner.send(f"/trades/negotiations/{negotiation}/accept"), "/trades/agreements")
    settled = await market.buyer.send(f"/trades/agreements/{agreement}/settlement")
    settlement = id_in(settled, "/trades/settlements")
    base = f"/trades/settlements/{settlement}"
    assert id_in(await market.owner.send(f"{base}/deliver", payment="1"), "/trades/settlements") == settlement
    assert id_in(await market.buyer.send(f"{base}/confirm", payment="1"), "/trades/settlements") == settlement
    assert (await api(market.buyer, f"trading/settlements/{settlement}"))["state"] == "completed"
    rated = await market.buyer.send(f"/trades/agreements/{agreement}/feedback", rating="5", text="<i>good</i>")
    assert rated.status_code == 303
    page = (await market.buyer.get(f"/trades/agreements/{agreement}")).text
    assert "&lt;i&gt;good" in page and "Rate the other side" not in page
    assert (await market.buyer.send(f"/trades/agreements/{agreement}/nothing")).status_code == 404
    assert (await market.operator.get("/trades/nothing")).status_code == 404


async def test_a_dispute_is_argued_and_decided(market: Market) -> None:
    base = f"/trades/settlements/{market.stock.settlement}"
    assert (await market.buyer.send(f"{base}/dispute", reason="It was off.")).status_code == 303
    assert (await market.owner.send(f"{base}/evidence", text="It was on.")).status_code == 303
    page = (await market.operator.get(base)).text
    assert "It was off." in page and "It was on." in page and "Decide" in page
    assert "Percent to the seller" not in (await market.buyer.get(base)).text
    refused(await market.operator.send(f"{base}/decision", seller_percent="x", reason="half"))
    assert (await market.operator.send(f"{base}/decision", seller_percent="50", reason="half")).status_code == 303
    assert not (await api(market.buyer, f"trading/settlements/{market.stock.settlement}"))["disputed"]


async def test_an_agent_is_called_at_a_price_that_is_shown_and_waits_for_a_word(market: Market) -> None:
    skill = f"/agents/{market.stock.agent}/skills/work"
    page = (await market.buyer.get(skill)).text
    assert "0.01 AITBC for the agent" in page and "Shall it be sent?" in page
    assert (await market.buyer.get(f"/agents/{market.stock.agent}/skills/other")).status_code == 404
    refused(await market.buyer.send(skill, text="please", budget="0.001"))
    run = id_in(await market.buyer.send(skill, text="please", once="call-once-0123456789"), "/agents/runs")
    first = market.stock.run
    assert "Shall it be sent?" in (await market.buyer.get(f"/agents/runs/{first}")).text
    assert (await market.buyer.send(f"/agents/runs/{first}/answer", step="1", do="approve")).status_code == 303
    assert (await market.buyer.send(f"/agents/runs/{run}/cancel")).status_code == 303
    assert (await api(market.buyer, f"hermes/runs/{run}"))["state"] == "canceled"
    assert (await api(market.buyer, f"hermes/runs/{first}"))["steps"][0]["state"] == "done"


async def test_an_owner_sees_edges_and_what_they_serve_at_each_place_and_changes_it(market: Market) -> None:
    deployment = market.stock.deployment
    page = f"/agents/deployments/{deployment}"
    assert "eu-central" in (await market.owner.get("/agents/edges")).text
    shown = (await market.owner.get(page)).text
    assert all(word in shown for word in ("assistant", "eu-central", "us-west", "no edge", "unknown", "wordllama-256"))
    assert (await market.buyer.get(page)).status_code == 404
    refused(await market.owner.send(f"{page}/scale", replicas="0"))
    assert (await market.owner.send(f"{page}/scale", replicas="3")).status_code == 303
    assert (await api(market.owner, f"hermes/deployments/{deployment}"))["replicas"] == 3
    assert (await market.owner.send(f"{page}/rollback")).status_code == 303
    assert (await api(market.owner, f"hermes/deployments/{deployment}"))["state"] == "failed", "none was good before"
    assert (await market.owner.send(f"{page}/end")).status_code == 303
    assert "Scale" not in (await market.owner.get(page)).text


async def test_an_operator_sees_what_an_install_changes_and_removes_it(market: Market) -> None:
    path = f"/plugins/{market.stock.plugin}"
    page = (await market.operator.get(path)).text
    assert "Remove" in page and "What 1.0.0 would change" in page
    assert "would change" not in (await market.buyer.get(path)).text
    assert "Versions" in (await market.owner.get(path)).text
    assert (await market.operator.send(f"{path}/remove")).status_code == 303
    assert "It is not installed." in (await market.operator.get(path)).text
    installed = await market.operator.send(f"{path}/install", version="1.0.0", **{"grant:log": "1"})
    assert installed.status_code == 303, installed.text[-500:]
    assert (await api(market.operator, f"plugins/installs/{market.stock.plugin}"))["grants"] == ["log"]
    assert (await market.buyer.send(f"{path}/install", version="1.0.0")).status_code == 403
    assert (await market.buyer.send(f"{path}/review", rating="5", text="fine")).status_code in (303, 403, 409)


async def test_stake_is_locked_and_delegated_and_a_vote_is_cast_once(market: Market) -> None:
    path = f"/proposals/{market.stock.proposal}"
    assert "One option" in (await market.buyer.get(path)).text
    assert (await market.buyer.send(f"{path}/vote", option="1", reason="that")).status_code == 303
    page = (await market.buyer.get(path)).text
    assert "One option" not in page and "that" in page
    refused(await market.buyer.send(f"{path}/vote", option="0"), 409)
    assert (await market.buyer.send("/proposals/stake/lock", amount="2")).status_code == 303
    owner = market.owner.caller.principal.account
    assert (await market.buyer.send("/proposals/stake/delegations", shares=f"{owner}=50")).status_code == 303
    assert f"{owner}=50" in (await market.buyer.get("/proposals/stake")).text
    refused(await market.buyer.send("/proposals/stake/delegations", shares=f"{owner}=x"))
    assert (await market.buyer.send("/proposals/stake/delegations", shares="")).status_code == 303


async def test_a_parameter_is_proposed_simulated_and_taken_back(market: Market) -> None:
    form = await market.buyer.get("/proposals/new?name=trading.fee_basis_points")
    assert "trading.fee_basis_points=" in form.text
    fields = {"title": "Lower the fee", "class": "parameters", "parameters": "trading.fee_basis_points=x"}
    assert "NAME=NUMBER" in refused(await market.buyer.send("/proposals/new", **fields))
    fields["parameters"] = "trading.fee_basis_points=200"
    proposal = id_in(await market.buyer.send("/proposals/new", **fields), "/proposals")
    simulated = (await market.buyer.get(f"/proposals/{proposal}?days=30")).text
    assert "With this proposal" in simulated
    assert (await market.buyer.send(f"/proposals/{proposal}/cancel", reason="no")).status_code == 303
    assert (await api(market.buyer, f"governance/proposals/{proposal}"))["state"] == "cancelled"


async def test_graphs_and_studies_are_begun_paused_and_canceled_by_their_pages(market: Market) -> None:
    for plural, described in (("graphs", GRAPH), ("studies", STUDY)):
        assert "not JSON" in refused(await market.buyer.send(f"/{plural}/new", text="nodes: []"))
        kept = refused(await market.buyer.send(f"/{plural}/new", text='{"budget": "1", "what": 1}'))
        assert "&#34;what&#34;: 1" in kept
        begun = await market.buyer.send(f"/{plural}/new", text=json.dumps(described), once=f"once-{plural}-0123456789")
        one = id_in(begun, f"/{plural}")
        listed = (await market.buyer.get(f"/{plural}")).text
        assert one in listed and '<a href="/jobs" aria-current="page">Work</a>' in listed
        assert (await market.buyer.send(f"/{plural}/{one}/pause")).status_code == 303
        assert "Go on" in (await market.buyer.get(f"/{plural}/{one}")).text
        assert one in (await market.buyer.get(f"/{plural}?state=paused")).text
        assert (await market.buyer.send(f"/{plural}/{one}/resume")).status_code == 303
        assert (await market.buyer.send(f"/{plural}/{one}/cancel")).status_code == 303
        assert (await market.buyer.send(f"/{plural}/{one}/nothing")).status_code in (400, 404)
        assert (await market.owner.get(f"/{plural}/{one}")).status_code == 404
        async with asyncio.timeout(60):
            while (await api(market.buyer, f"ai/{plural}/{one}"))["state"] != "canceled":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        refused(await market.buyer.send(f"/{plural}/{one}/resume"), 409)

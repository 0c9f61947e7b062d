"""Jobs over HTTP: what a client sends and what it gets, and how a stream goes on where it stopped."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
from litestar import Litestar, Request, Router
from litestar.di import Provide

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import LogLine
from aitbc.modules.ai.module import module
from aitbc.modules.ai.service.job_events import place_of
from aitbc.modules.gpu.events import MinerChanged
from aitbc.server.asgi.app_options import app_options, check_routes, raw_bodies
from aitbc.server.asgi.boundary import Boundary, Limits
from tests.modules.ai.make import Market, Worker, ai_on

JOBS = "/api/v1/ai/jobs"
HOST = "ai.test"


class Visitors:
    """Who comes in, by a header: authentication is tested elsewhere."""

    def __init__(self) -> None:
        self.known: dict[str, Principal] = {}
        self.onces: list[IdempotencyKey] = []


_served = SimpleNamespace(ai=None, visitors=Visitors())
"""What the routes stand on in the test at hand: making them takes longer than most tests."""


@cache
def _app() -> Litestar:
    async def who(request: Request[Any, Any, Any]) -> Principal:
        return cast(Principal, _served.visitors.known[request.headers["x-who"]])

    async def once(request: Request[Any, Any, Any]) -> IdempotencyKey:
        key = IdempotencyKey(request.headers["x-who"], request.headers.get("idempotency-key"), b"f")
        _served.visitors.onces.append(key)
        return key

    parts = {name: _provided(name) for name in module.parts}
    dependencies = {**parts, "who": Provide(who), "once": Provide(once)}
    app = Litestar(
        [Router("/api/v1/ai", route_handlers=list(module.routes), dependencies=dependencies)], **app_options()
    )
    check_routes(app)
    return app


@asynccontextmanager
async def ai_over_http(owner: Target, **settings: Any) -> AsyncIterator[tuple[Market, Visitors, httpx.AsyncClient]]:
    """ai behind its routes."""
    async with ai_on(owner, **settings) as market:
        visitors = Visitors()
        _served.ai, _served.visitors = market.ai, visitors
        app = _app()
        wall = Boundary(app, Limits(), hosts=frozenset({HOST}), origins=frozenset(), raw_bodies=raw_bodies(app))
        transport = httpx.ASGITransport(app=wall)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            yield market, visitors, client


def _provided(part: str) -> Provide:
    async def given() -> Any:
        return getattr(_served.ai, part)

    return Provide(given)


def as_(visitors: Visitors, who: Principal, **headers: str) -> dict[str, str]:
    """The headers of this caller."""
    visitors.known[who.account] = who
    return {"x-who": who.account, **headers}


def body(**changes: Any) -> dict[str, Any]:
    """A job as it is sent."""
    return {"kind": "embed", "input": {"texts": ["one", "two"]}, "max_price": "0.05"} | changes


async def test_a_job_is_bought_over_http(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        headers = as_(visitors, market.person())
        sent = await client.post(JOBS, json=body(), headers=headers | {"idempotency-key": "k"})
        assert sent.status_code == 201, sent.text
        job = sent.json()
        assert sent.headers["location"] == f"{JOBS}/{job['id']}"
        assert (job["state"], job["reason"], job["max_price"]) == ("queued", "submitted", "0.05")
        again = await client.post(JOBS, json=body(), headers=headers | {"idempotency-key": "k"})
        assert (again.status_code, again.json()) == (201, job)
        assert visitors.onces[-1].replayed
        miner = Worker(market)
        await miner.deliver(await miner.take())
        found = (await client.get(sent.headers["location"], headers=headers)).json()
        assert (found["state"], found["price"], found["receipt"]) == ("succeeded", "0.0000006", "rcpt_" + job["id"][4:])
        assert found["input"] == {"texts": ["one", "two"]}
        assert found["output"]["vectors"][1] == [0.5, -0.25, 0.125, 1e-7]
        assert [attempt["state"] for attempt in found["history"]] == ["succeeded"]


async def test_a_job_of_somebody_else_looks_like_none(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        job = await market.submit(market.person())
        stranger = as_(visitors, market.person())
        for path in ("", "/explain", "/wait?seconds=0", "/logs", "/events"):
            for name in (job, ids.new_id("job"), "job_rubbish", ids.new_id("hold")):
                answer = await client.get(f"{JOBS}/{name}{path}", headers=stranger)
                assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), path
        answer = await client.post(f"{JOBS}/{job}/cancel", headers=stranger)
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
        assert (await client.get(JOBS, headers=stranger)).json()["data"] == []


async def test_what_is_wrong_with_a_body_is_said_by_its_place(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        headers = as_(visitors, market.person(), **{"idempotency-key": "k"})
        for changes, status, code in (
            ({"kind": "paint"}, 422, "unknown_kind"),
            ({"input": {"texts": [1]}}, 422, "invalid_input"),
            ({"max_price": 0.05}, 422, "invalid"),
            ({"max_price": "0.0000000001"}, 422, "invalid_amount"),
            ({"max_price": "0.00000001"}, 422, "max_price_too_low"),
            ({"max_price": "1000000"}, 402, "insufficient_funds"),
            ({"priority": 10}, 422, "invalid"),
            ({"priority": "none"}, 422, "invalid"),
            ({"clocks": {"run_seconds": 0}}, 422, "invalid"),
            ({"colour": "red"}, 422, "invalid"),
        ):
            answer = await client.post(JOBS, json=body(**changes), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        answer = await client.post(JOBS, json=body(input={"texts": [1]}), headers=headers)
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/input/texts/0"]
        assert await market.sql("SELECT id FROM ai.jobs") == []


async def test_a_quote_says_what_a_job_would_cost_and_changes_nothing(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        headers = as_(visitors, market.person())
        quote = await client.post("/api/v1/ai/quotes", json=body(), headers=headers)
        assert quote.status_code == 200
        assert (quote.json()["price_max"], quote.json()["sufficient"]) == ("0.0000006", True)
        assert market.trading.holds == {}


async def test_kinds_say_what_they_take_give_and_cost(owner: Target) -> None:
    async with ai_over_http(owner) as (_, _, client):
        kinds = {kind["name"]: kind for kind in (await client.get("/api/v1/ai/kinds")).json()["data"]}
        assert set(kinds) == {"embed", "rerank", "ocr", "chat", "command", "container"}
        for kind in kinds.values():
            assert kind["unit"] and kind["metering"] and float(kind["unit_price"]) > 0
            assert kind["input_schema"]["$ref"] and kind["output_schema"]["$ref"]


async def test_jobs_are_listed_page_by_page_and_filtered(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        alice = market.person()
        headers = as_(visitors, alice)
        made = [await market.submit(alice) for _ in range(5)]
        miner = Worker(market)
        await miner.deliver(await miner.take())
        seen: list[str] = []
        cursor = None
        while True:
            query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(JOBS, params=query, headers=headers)).json()
            seen += [job["id"] for job in page["data"]]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
        assert seen == made[::-1]
        done = (await client.get(JOBS, params={"status": "succeeded"}, headers=headers)).json()["data"]
        assert [job["id"] for job in done] == made[:1]
        assert (await client.get(JOBS, params={"kind": "ocr"}, headers=headers)).json()["data"] == []
        assert (await client.get(JOBS, params={"status": "lost"}, headers=headers)).status_code == 422
        forged = await client.get(JOBS, params={"cursor": "AAAA"}, headers=headers)
        assert (forged.status_code, forged.json()["code"]) == (422, "invalid_cursor")


async def test_waiting_ends_with_the_job(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        alice = market.person()
        job = await market.submit(alice)
        miner = Worker(market)
        lease = await miner.take()
        waiting = asyncio.create_task(client.get(f"{JOBS}/{job}/wait?seconds=60", headers=as_(visitors, alice)))
        await asyncio.sleep(0.1)
        await miner.deliver(lease)
        async with asyncio.timeout(20):
            assert (await waiting).json()["state"] == "succeeded"
        short = await client.get(f"{JOBS}/{await market.submit(alice)}/wait?seconds=0.1", headers=as_(visitors, alice))
        assert short.json()["state"] == "queued"
        assert len(market.ai.wakeups.watched) == 0


async def test_a_file_goes_up_and_comes_down(owner: Target, tmp_path: Path) -> None:
    async with ai_over_http(owner, state_dir=tmp_path) as (market, visitors, client):
        headers = as_(visitors, market.person())
        raw = headers | {"content-type": "application/octet-stream"}
        sent = await client.post("/api/v1/ai/artifacts", content=b"\x00\xff" * 300_000, headers=raw)
        assert sent.status_code == 201, sent.text
        found = await client.get(f"/api/v1/ai/artifacts/{sent.json()['id']}", headers=headers)
        assert found.content == b"\x00\xff" * 300_000
        assert found.headers["content-type"].startswith("application/octet-stream")
        stranger = as_(visitors, market.person())
        assert (await client.get(f"/api/v1/ai/artifacts/{sent.json()['id']}", headers=stranger)).status_code == 404


def events(text: str) -> list[tuple[str | None, str, dict[str, Any]]]:
    """The events of a stream."""
    found = []
    for block in filter(None, text.strip().split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return found


async def test_a_stream_goes_on_after_any_event_without_loss_or_double(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        alice = market.person()
        job = await market.submit(alice)
        first, second = Worker(market), Worker(market)
        lease = await first.take()
        lines = [LogLine(sequence=number, at=now(), text=f"line {number}") for number in (1, 2, 3)]
        await market.ai.log(first.id, lease.attempt, lease.token, lines)
        await first.fail(lease, "miner")
        lease = await second.take()
        await market.ai.log(second.id, lease.attempt, lease.token, lines[:2])
        await second.deliver(lease)
        headers = as_(visitors, alice)
        answer = await client.get(f"{JOBS}/{job}/events", headers=headers)
        assert answer.headers["content-type"].startswith("text/event-stream")
        whole = [event for event in events(answer.text) if event[1] != "progress"]
        told = [(kind, data.get("state") or data.get("ended") or data.get("text")) for _, kind, data in whole]
        assert told == [
            ("state", "queued"),
            ("state", "leased"),
            ("state", "running"),
            ("log", "line 1"),
            ("log", "line 2"),
            ("log", "line 3"),
            ("attempt", "failed"),
            ("state", "leased"),
            ("state", "running"),
            ("log", "line 1"),
            ("log", "line 2"),
            ("attempt", "succeeded"),
            ("state", "succeeded"),
        ]
        places = [place_of(event[0]) for event in whole]
        assert places == sorted(set(places))
        for index, event in enumerate(whole):
            rest = await client.get(f"{JOBS}/{job}/events", headers=headers | {"last-event-id": str(event[0])})
            assert [e for e in events(rest.text) if e[1] != "progress"] == whole[index + 1 :]
        for wrong in ("x", "1.2", "1.2.-3", "9" * 30):
            answer = await client.get(f"{JOBS}/{job}/events", headers=headers | {"last-event-id": wrong})
            assert answer.status_code == 422, wrong


async def test_a_live_stream_tells_news_as_it_comes(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        following = asyncio.create_task(client.get(f"{JOBS}/{job}/events", headers=as_(visitors, alice)))
        await asyncio.sleep(0.1)
        lease = await miner.take()
        await miner.renew(lease, 0.25)
        await asyncio.sleep(0.1)
        line = LogLine(sequence=1, at=now(), text="half way")
        await market.ai.log(miner.id, lease.attempt, lease.token, [line])
        await asyncio.sleep(0.1)
        await miner.deliver(lease)
        async with asyncio.timeout(20):
            told = events((await following).text)
        assert ("progress", 0.25) in [(kind, data.get("progress")) for _, kind, data in told]
        assert [kind for _, kind, _ in told if kind != "progress"] == [
            "state",
            "state",
            "state",
            "log",
            "attempt",
            "state",
        ]


async def test_logs_are_read_on_from_a_cursor(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take()
        lines = [LogLine(sequence=number, at=now(), text=str(number)) for number in range(1, 8)]
        await market.ai.log(miner.id, lease.attempt, lease.token, lines)
        headers = as_(visitors, alice)
        page = (await client.get(f"{JOBS}/{job}/logs?limit=5", headers=headers)).json()
        rest = (await client.get(f"{JOBS}/{job}/logs", params={"cursor": page["next_cursor"]}, headers=headers)).json()
        assert [line["text"] for line in page["data"] + rest["data"]] == list("1234567")


async def test_explain_is_never_blank(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        alice, miner = market.person(), Worker(market)
        headers = as_(visitors, alice)

        async def explained(job: str) -> dict[str, Any]:
            found: dict[str, Any] = (await client.get(f"{JOBS}/{job}/explain", headers=headers)).json()
            for field in ("state", "reason", "summary", "suggestion"):
                assert found[field], (field, found)
            assert found["expected_wait"]["basis"]
            return found

        alone = await explained(await market.submit(alice))
        assert (alone["reason"], alone["position"]) == ("no_miner_fits", 1)
        assert "aitbc miner run" in alone["suggestion"]
        async with market.ai.db.unit_of_work() as uow:
            await market.ai.on_miners_changed(uow, [miner.changed()])
        waiting = await explained(await market.submit(alice))
        assert (waiting["position"], waiting["reason"]) == (2, "submitted")
        assert waiting["expected_wait"]["basis"].startswith("no data")
        picky = await explained(await market.submit(alice, region="moon", device="cpu"))
        counts = {count["filter"]: (count["before"], count["after"]) for count in picky["filters"]}
        assert counts["region"] == (1, 0) and counts["kind"] == (1, 1)
        assert picky["suggestion"].startswith("Drop the requirement region = moon: 1 miners")
        big = await explained(await market.submit(alice, min_vram_mib=5))
        assert "at most 0 MiB" in big["suggestion"]
        lease = await miner.take()
        assert miner.id in (await explained(lease.job))["summary"]
        await miner.renew(lease, 0.5)
        assert "50% done" in (await explained(lease.job))["summary"]
        await miner.deliver(lease)
        assert (await explained(lease.job))["state"] == "succeeded"
        lease = await miner.take()
        await miner.fail(lease, "unknown")
        assert "next may begin" in (await explained(lease.job))["summary"]
        canceled = await market.submit(alice)
        await client.post(f"{JOBS}/{canceled}/cancel", headers=headers)
        assert (await explained(canceled))["state"] == "canceled"
        late = await market.submit(alice, clocks={"queue_seconds": 5})
        timed = await explained(late)
        assert timed["expected_wait"]["low_seconds"] is not None and "slots" in timed["expected_wait"]["basis"]
        clock.move(timedelta(seconds=6))
        await market.ai.sweep()
        assert (await explained(late))["state"] == "expired"
        failed = await market.submit(alice, kind="command", value={"program": "wc"})
        (lease,) = await Worker(market, kinds=("command",)).claim()
        await _fail(market, lease)
        told = await explained(failed)
        assert (told["state"], told["attempts"][0]["message"]) == ("failed", "Exit code 1.")


async def test_who_waits_for_a_miner_that_rests_is_told_why(owner: Target) -> None:
    async with ai_over_http(owner) as (market, visitors, client):
        alice, miner, other = market.person(), Worker(market), Worker(market, kinds=("ocr",))
        job = await market.submit(alice)

        async def suggested(*news: MinerChanged) -> str:
            async with market.ai.db.unit_of_work() as uow:
                await market.ai.on_miners_changed(uow, news)
            told = (await client.get(f"{JOBS}/{job}/explain", headers=as_(visitors, alice))).json()
            return str(told["suggestion"])

        assert "new fans" in await suggested(miner.changed(1, "draining", "new fans"), other.changed())
        assert "1 fitting miners" in await suggested(miner.changed(2, "draining"))
        assert "No online miner serves embed" in await suggested(miner.changed(3, "offline", "silent"))
        assert "Nothing has to change" in await suggested(miner.changed(4))


async def _fail(market: Market, lease: Any) -> None:
    (row,) = await market.sql("SELECT miner FROM ai.attempts WHERE id = $1", ids.decode("att", lease.attempt))
    worker = Worker(market)
    worker.id = ids.encode("mnr", row["miner"])
    await worker.fail(lease, "requester", "exit_nonzero", "Exit code 1.")


async def test_the_newest_picture_of_a_miner_counts(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        for version, status in ((2, "draining"), (1, "online"), (3, "offline")):
            async with market.ai.db.unit_of_work() as uow:
                await market.ai.on_miners_changed(uow, [miner.changed(version, status)])
        assert [(seen.id, seen.status) for seen in await market.ai.fleet_view.miners()] == [(miner.id, "offline")]

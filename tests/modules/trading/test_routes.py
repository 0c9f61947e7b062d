"""The HTTP of trading: who may do and see what, pages, search, and the files that people take away."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, Request, Router
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.chain_verifier import verify_export
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import encode_cursor
from aitbc.modules.trading.module import module
from aitbc.modules.trading.service import TradingService
from aitbc.server.asgi.app_options import app_options
from tests.modules.trading.make import ADMIN, NODE, a_hold, a_settlement, person, trading_on

_served = SimpleNamespace(trading=None, who={})
"""What the routes stand on in the test at hand: making them takes longer than most tests."""


def app_for(trading: TradingService, who: dict[str, Principal]) -> Litestar:
    """The routes of trading on this service, with a caller that a header names; until they are asked for again."""
    _served.trading, _served.who = trading, who
    return _app()


@cache
def _app() -> Litestar:
    async def caller(request: Request[Any, Any, Any]) -> Principal:
        return cast(Principal, _served.who[request.headers["x-who"]])

    async def guard(connection: Any, handler: BaseRouteHandler) -> None:
        _served.who[connection.headers["x-who"]].require(handler.opt["permission"])

    async def once() -> IdempotencyKey:
        return IdempotencyKey.NONE

    def provide(name: str) -> Provide:
        return Provide(lambda: getattr(_served.trading, name), sync_to_thread=False)

    parts = {name: provide(name) for name in module.parts}
    router = Router(
        "/api/v1/trading",
        route_handlers=module.routes,
        guards=[guard],
        dependencies={**parts, "who": Provide(caller), "once": Provide(once)},
    )
    return Litestar([router], **app_options())


class World:
    """Two people, an admin, and a few paid jobs."""

    def __init__(self, trading: TradingService, app: Litestar) -> None:
        self.trading = trading
        asgi: Any = app
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://test/api/v1/trading")
        self.receipts: list[str] = []
        self.jobs: list[str] = []
        self.miner = ids.new_id("mnr")

    async def get(self, path: str, who: str = "alice", **query: Any) -> Any:
        """The answer to a successful GET."""
        answer = await self.client.get(path, params=query, headers={"x-who": who})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, path: str, who: str = "alice", **query: Any) -> tuple[int, str]:
        """Status and code of a refused GET."""
        answer = await self.client.get(path, params=query, headers={"x-who": who})
        assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
        return answer.status_code, answer.json()["code"]


@pytest.fixture
def people() -> dict[str, Principal]:
    return {"admin": ADMIN, "alice": person(), "bob": person()}


@asynccontextmanager
async def a_world(owner: Target, people: dict[str, Principal]) -> AsyncIterator[World]:
    async with trading_on(owner) as trading:
        world = World(trading, app_for(trading, people))
        alice, bob = people["alice"].account, people["bob"].account
        await trading.deposits.deposit(ADMIN, alice, 10**9, "welcome", IdempotencyKey.NONE)
        for price in (10, 20, 30):
            hold = a_hold(alice, 100)
            await trading.hold(hold)
            settled = await trading.settle(a_settlement(hold, price, miner_account=bob, miner=world.miner))
            world.receipts.append(settled.receipt)
            world.jobs.append(hold.reference)
            await trading.seal()
        async with world.client:
            yield world


async def test_money_is_the_owners_and_the_operators_to_see(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        alice = people["alice"].account
        for path in (f"/accounts/{alice}", f"/addresses/{alice}"):
            mine = await world.get(path)
            assert (mine["available"], mine["spent"], mine["earned"]) == ("9.9999994", "0.0000006", "0")
            assert await world.get(path, "admin") == mine
            assert await world.refused(path, "bob") == (404, "ledger_account_not_found")
        assert await world.refused(f"/accounts/{alice}/entries", "bob") == (404, "ledger_account_not_found")
        assert await world.refused("/accounts/nonsense") == (404, "ledger_account_not_found")
        fees = await world.get("/addresses/system")
        everyone = await world.get("/accounts", "admin")
        assert len(everyone["data"]) == 2 and not everyone["has_more"]
        sums = {
            part: sum(_units(account[part]) for account in [*everyone["data"], fees]) for part in ("earned", "spent")
        }
        assert sums["earned"] == sums["spent"] == 60


def _units(text: str) -> int:
    return chain_format.read_units(text)


async def test_lists_come_in_pages_without_a_gap(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        alice = people["alice"].account
        for path, name, total in (
            ("/transactions", "id", 7),
            ("/receipts", "id", 3),
            ("/blocks", "height", 4),
            (f"/accounts/{alice}/entries", "version", 7),
            ("/blocks/1/records", "sequence", 4),
        ):
            seen, cursor = [], None
            while True:
                page = await world.get(path, limit=2, **({"cursor": cursor} if cursor else {}))
                seen += [item[name] for item in page["data"]]
                cursor = page["next_cursor"]
                if not page["has_more"]:
                    break
            assert len(seen) == len(set(seen)) == total, path
            whole = await world.get(path, limit=1000)
            assert [item[name] for item in whole["data"]] == seen
            assert (await world.refused(path, cursor="x"))[0] == 422
            assert (await world.refused(path, limit=0))[0] == 422


async def test_a_forged_cursor_is_refused(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        for path, name, position in (
            ("/transactions", "transactions", ("txn_x",)),
            ("/blocks", "blocks", (-1,)),
            ("/blocks", "blocks", (2**63,)),
            ("/receipts", "receipts", ("2026-01-01T00:00:00Z", "nonsense")),
        ):
            bound = {"transactions": [""], "receipts": ["", "", ""]}.get(name, [])
            cursor = encode_cursor(name, *position, bound_to=bound)
            assert await world.refused(path, cursor=cursor) == (422, "invalid_cursor")


async def test_every_link_of_a_receipt_leads_somewhere(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        receipt = await world.get(f"/receipts/{world.receipts[1]}")
        transaction = await world.get(f"/transactions/{receipt['receipt']['transaction']}")
        assert transaction["receipt"] == world.receipts[1] and transaction["reference"] == world.jobs[1]
        assert transaction["sealed"]["height"] == receipt["proof"]["block"]["height"] == 2
        for entry in transaction["entries"]:
            assert _units(entry["before"]) + _units(entry["amount"]) == _units(entry["after"])
        assert sum(_units(entry["amount"]) for entry in transaction["entries"]) == 0
        by_job = await world.get("/receipts", job=world.jobs[1])
        assert [line["id"] for line in by_job["data"]] == [world.receipts[1]]
        both = await world.get("/transactions", reference=world.jobs[1])
        assert [line["kind"] for line in both["data"]] == ["settle", "hold"]
        block = await world.get(f"/blocks/{receipt['proof']['hash']}")
        assert block == await world.get("/blocks/2")
        records = await world.get("/blocks/2/records")
        assert [record["kind"] for record in records["data"]] == ["transaction", "transaction", "receipt"]
        assert (await world.get("/receipts", miner=world.miner, limit=2))["has_more"]
        assert len((await world.get("/receipts", payer=people["alice"].account))["data"]) == 3
        assert (await world.get("/receipts", payer=people["bob"].account))["data"] == []


async def test_a_receipt_saved_as_answered_is_verified_offline(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        answer = await world.client.get(f"/receipts/{world.receipts[0]}", headers={"x-who": "alice"})
        keys = [key["public_key"] for key in (await world.get("/chain/keys"))["data"]]
        checked = chain_format.verify_receipt(answer.content, trusted_keys=keys)
        assert checked.receipt["id"] == world.receipts[0] and checked.height == 1
        forged = answer.json()
        forged["receipt"]["price"] = "0.5"
        with pytest.raises(chain_format.ChainError):
            chain_format.verify_receipt(json.dumps(forged).encode())


async def test_the_export_is_a_file_that_verifies(empty: Target, people: dict[str, Principal], tmp_path: Any) -> None:
    async with a_world(empty, people) as world:
        answer = await world.client.get("/chain/export", headers={"x-who": "alice"})
        assert answer.headers["content-type"].startswith("application/jsonl")
        path = tmp_path / "chain.jsonl"
        path.write_bytes(answer.content)
        with path.open("rb") as file:
            checked = verify_export(file, trusted_keys=[NODE.public])
        assert (checked.height, checked.receipts, checked.transactions) == (3, 3, 7)


async def test_search_leads_to_what_an_id_names(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        block = await world.get("/blocks/2")
        transaction = (await world.get("/transactions", limit=1))["data"][0]["id"]
        still_open = a_hold(people["alice"].account, 5)
        await world.trading.hold(still_open)
        for wanted, kind in (
            ("2", "block"),
            (block["hash"], "block"),
            (transaction, "transaction"),
            (world.receipts[0], "receipt"),
            (world.jobs[0], "receipt"),
            (still_open.reference, "hold"),
            (still_open.hold, "hold"),
            (people["alice"].account, "address"),
            (world.miner, "miner"),
        ):
            found = await world.get("/search", q=wanted)
            assert found["kind"] == kind
            await world.get(found["path"].removeprefix("/api/v1/trading"))
        unknown = ("99999", "9" * 60, "sha256:" + "0" * 64, ids.new_id("txn"), ids.new_id("job"), "hello", "txn_", "²")
        for wanted in (*unknown, people["bob"].account, ids.new_id("mnr"), "rcpt_" + "!" * 26):
            assert await world.refused("/search", q=wanted) == (404, "nothing_found"), wanted


async def test_unknown_things_are_not_found(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        for path, code in (
            (f"/transactions/{ids.new_id('txn')}", "transaction_not_found"),
            ("/transactions/nonsense", "transaction_not_found"),
            (f"/receipts/{ids.new_id('rcpt')}", "receipt_not_found"),
            (f"/receipts/{world.jobs[0]}", "receipt_not_found"),
            ("/blocks/4", "block_not_found"),
            ("/blocks/" + "9" * 40, "block_not_found"),
            ("/blocks/sha256:zz", "block_not_found"),
            ("/blocks/nonsense/records", "block_not_found"),
        ):
            assert await world.refused(path) == (404, code), path
        assert (await world.get("/receipts", job="nonsense"))["data"] == []


async def test_deposits_and_corrections_are_the_operators(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        bob = people["bob"].account
        body = {"account": bob, "amount": "2.5", "reason": "welcome"}
        refused = await world.client.post("/deposits", json=body, headers={"x-who": "alice"})
        assert refused.status_code == 403
        made = await world.client.post("/deposits", json=body, headers={"x-who": "admin"})
        assert made.status_code == 201 and made.json()["entries"][1]["amount"] == "2.5"
        path = f"/transactions/{made.json()['id']}/correction"
        undone = await world.client.post(path, json={"reason": "typo"}, headers={"x-who": "admin"})
        again = await world.client.post(path, json={"reason": "typo"}, headers={"x-who": "admin"})
        assert undone.status_code == again.status_code == 201 and undone.json() == again.json()
        for wrong in (
            body | {"amount": "0"},
            body | {"amount": "-1"},
            body | {"amount": 5},
            body | {"amount": "0.05\n"},
            body | {"amount": "1e5"},
            body | {"amount": "0.000000001"},
            body | {"amount": "99999999999999999999"},
            body | {"account": "acct_" + "u" * 26},
            body | {"account": "system"},
            body | {"extra": 1},
            {"account": bob},
        ):
            answer = await world.client.post("/deposits", json=wrong, headers={"x-who": "admin"})
            assert answer.status_code in (400, 404, 422), (wrong, answer.text)
        off = await world.client.post("/faucet", json={"amount": "1"}, headers={"x-who": "bob"})
        assert (off.status_code, off.json()["code"]) == (403, "faucet_off")


async def test_the_operator_verifies_the_ledger(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        refused = await world.client.post("/ledger/verify", headers={"x-who": "alice"})
        assert refused.status_code == 403
        report = (await world.client.post("/ledger/verify", headers={"x-who": "admin"})).json()
        assert report["ok"] and report["divergence"] is None and report["receipts"] == 3
        assert (await world.get("/fees"))["basis_points"] == 250


async def test_the_operator_sees_page_after_page_what_is_set_aside(empty: Target, people: dict[str, Principal]) -> None:
    async with a_world(empty, people) as world:
        alice = people["alice"].account
        holds = [a_hold(alice, 100 + number) for number in range(5)]
        for hold in holds:
            await world.trading.hold(hold)
        await world.trading.void(holds[2].hold, "canceled")
        seen: list[Any] = []
        page: Any = {"next_cursor": None, "has_more": True}
        while page["has_more"]:
            page = await world.get(
                "/holds", "admin", limit=3, **({"cursor": cursor} if (cursor := page["next_cursor"]) else {})
            )
            seen += page["data"]
        assert [hold["id"] for hold in seen] == [holds[number].hold for number in (0, 1, 3, 4)]
        assert (seen[0]["payer"], seen[0]["amount"], seen[0]["reference"]) == (alice, "0.000001", holds[0].reference)
        assert (await world.refused("/holds"))[0] == 403
        for position in (
            (1, holds[0].hold),
            ("2026-01-01T00:00:00", holds[0].hold),
            ("2026-01-01T00:00:00Z", "hold_x"),
        ):
            cursor = encode_cursor("open_holds", *position)
            assert await world.refused("/holds", "admin", cursor=cursor) == (422, "invalid_cursor")

"""A test app with something in it: people, money, a job at work, a miner, and a look at all that is stored."""

import functools
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from aitbc.app import MODULES
from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.denials import ACTION
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import decode, is_id, new_id
from aitbc.modules.monitoring.service import MonitoringSettings
from aitbc.server.config.settings import WebhookSettings
from tests.app import Caller, TestApp, running_app
from tests.journeys.hand_miner import HandMiner
from tests.kernel.hooks.plugins import module
from tests.modules.plugins.make import publisher, word
from tests.poison.operations import OPERATIONS, Call, Operation
from tests.poison.wire import Answer, ask
from tests.roles import ROLE_SCOPES

COUNTERS = {"kernel.extension_calls"}
"""Written behind, whenever it is time: how often plugins were asked, also of what is then refused."""
LONG = {"queue_seconds": 604_800, "start_seconds": 600, "run_seconds": 86_400}


@dataclass
class StockedApp:
    """A test app without periodic tasks, so that only requests write, and the keys of its callers."""

    app: TestApp
    database: "asyncpg.Connection[asyncpg.Record]"
    admin: str
    owner: str
    """The keys of the operator, of somebody with a job and a miner, …"""
    miner: str
    """… of this miner, …"""
    stranger: str
    strange_miner: str
    """… and of others who own nothing that is asked about."""
    narrow: Mapping[str, str]
    """Keys of the owner's with one scope each, by that scope."""
    known: dict[str, str]
    """What exists, by the names that paths and queries have for it."""
    sums: str = ""
    """The statement that adds up what is stored."""
    asked: int = 0
    """How many requests there were."""
    rested: tuple[int, dict[str, str]] = (-1, {})
    """What was stored the last time that the app was at rest, and after how many requests that was."""

    def call(self, operation: Operation) -> Call:
        """A right request of somebody who may."""
        return operation.call(self.known, self.key_for(operation))

    def key_for(self, operation: Operation, *, foreign: bool = False) -> str | None:
        """The key of a caller who may use the operation: the least of those who may. `foreign` for one who owns nothing."""
        if operation.is_public:
            return None
        if operation.permission in ROLE_SCOPES["live"]:
            return self.stranger if foreign else self.owner
        if operation.permission in ROLE_SCOPES["miner"]:
            return self.strange_miner if foreign else self.miner
        return self.admin

    def narrow_for(self, operation: Operation) -> str:
        """A key that lacks the scope that this needs."""
        return next(secret for scope, secret in self.narrow.items() if scope != operation.permission)

    def unknown(self, operation: Operation, call: Call) -> Call:
        """The same about something of the same kind that nobody has."""
        for place, value in call.places.items():
            prefix = value.rpartition("_")[0]
            call = call.placed(place, new_id(prefix) if prefix and is_id(prefix, value) else new_id("nothing"))
        return call

    async def ask(self, call: Call) -> Answer:
        """The answer to a call."""
        self.asked += 1
        return await ask(self.app.asgi, call)

    async def stored(self) -> dict[str, str]:
        """What each table holds, as a count and a sum over its rows; the note that a key was refused is left out."""
        if not self.sums:
            self.sums = await self._sums()
        (row,) = await self.database.fetch(self.sums)
        return dict(row.items())

    async def _sums(self) -> str:
        """The statement of `stored`: its tables stay as they are, so that it is planned once."""
        tables = await self.database.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        )
        held = "count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0)"
        aside = {"kernel.audit": f" WHERE action <> '{ACTION}'"}
        kept = [name for (name,) in tables if name not in COUNTERS]
        each = (f'(SELECT {held} FROM {name} t{aside.get(name, "")}) AS "{name}"' for name in kept)
        return f"SELECT {', '.join(each)}"

    async def before(self) -> dict[str, str]:
        """What is stored while the app is at rest: looked at again only if there was a request since it last was."""
        if self.rested[0] != self.asked:
            self.rested = (self.asked, await self.settled())
        return self.rested[1]

    async def after(self, before: dict[str, str]) -> dict[str, str]:
        """What is stored after some requests; where that is something else, once all that they began is done."""
        now = await self.stored()
        self.rested = (self.asked, now if now == before else await self.settled())
        return self.rested[1]

    async def settled(self) -> dict[str, str]:
        """What is stored once all that was begun is done: events that go their way reach their hearers."""
        before = await self.stored()
        for _ in range(100):
            waiting = await self._hurry()
            after = await self.stored()
            if after == before and not waiting:
                return after
            before, changed = after, [name for name, held in after.items() if held != before[name]]
        raise AssertionError(f"the app does not come to rest: {waiting} events wait, {changed} change")

    async def _hurry(self) -> int:
        """Have events delivered that are put off for a while; answers how many there were."""
        waiting = 0
        for row in await self.database.fetch("SELECT schemaname AS name FROM pg_tables WHERE tablename = 'outbox'"):
            hurried = await self.database.execute(
                f"UPDATE {row['name']}.outbox SET due_at = created_at WHERE delivered_at IS NULL AND dead_at IS NULL"
            )
            waiting += int(hurried.split()[-1])
        if waiting:
            for relay in self.app.runtime.wired.relays:
                await relay.deliver_due()
        return waiting


@asynccontextmanager
async def stocked_app(target: Target, state_dir: Path, modules: Iterable[Any] = MODULES) -> AsyncIterator[StockedApp]:
    """A test app with one of everything that the operations speak of."""
    still = [replace(module, periodic_tasks=()) for module in modules]
    resting = WebhookSettings(in_flight_max=0)
    shown = {"monitoring": MonitoringSettings(status_page=True)}
    async with running_app(target, state_dir, modules=still, webhooks=resting, tables=shown) as app:
        arguments = target.connect_arguments(application="poison", statement_seconds=60)
        database = await asyncpg.connect(**arguments, max_cacheable_statement_size=0)
        try:
            yield await _peopled(app, database)
        finally:
            await database.close()


async def _peopled(app: TestApp, database: Any) -> StockedApp:
    admin, owner = await app.admin(), await app.who("owner", funds="200")
    stranger = await app.who("stranger", funds="1")
    miner = await HandMiner.enrol(app, owner)
    strange_miner = await HandMiner.enrol(app, stranger)
    for each in (miner, strange_miner):
        await each.beat()
    issue = functools.partial(app.runtime.identity.issue, account=owner.principal.account, kind="live")
    narrow = {scope: (await issue(name="narrow", scopes=(scope,))).secret for scope in ("self:read", "chain:read")}
    stocked = StockedApp(
        app, database, admin.secret, owner.secret, _secret(miner), stranger.secret, _secret(strange_miner), narrow, {}
    )
    stocked.known = await _things(app, stocked, owner, miner)
    await stocked.settled()
    return stocked


def _secret(miner: HandMiner) -> str:
    return str(miner.client.headers["authorization"]).removeprefix("Bearer ")


async def _things(app: TestApp, stocked: StockedApp, owner: Caller, miner: HandMiner) -> dict[str, str]:
    """One of everything: jobs paid and at work, a file, a booked GPU, a key to spare, a webhook and a message for it."""
    body = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05", "clocks": LONG}
    paid = (await owner.post("/api/v1/ai/jobs", body)).json()["id"]
    (lease,) = await miner.poll()
    assert (await miner.deliver(lease)).status_code == 200
    job = (await owner.post("/api/v1/ai/jobs", body)).json()["id"]
    (lease,) = await miner.poll()
    uploaded = await owner.client.post(
        "/api/v1/ai/artifacts", content=b"content", headers={"content-type": "application/octet-stream"}
    )
    rented = await HandMiner.enrol(app, owner, gpus=["NVIDIA H100 80GB HBM3"])
    await rented.beat()
    for_rent = {"model": "H100", "price_per_hour": "0.25", "miner": rented.id}
    listing = (await owner.post("/api/v1/gpu/listings", for_rent)).json()["id"]
    hour = {"gpu": listing, "duration_seconds": 3600, "max_price": "0.25"}
    booking = (await owner.post("/api/v1/gpu/bookings", hour)).json()["id"]
    spare = await app.runtime.identity.issue(account=owner.principal.account, kind="live", name="spare")
    hook = (await owner.post("/api/v1/webhooks/endpoints", {"url": "https://hooks.example/"})).json()["id"]
    sent = (await owner.post(f"/api/v1/webhooks/endpoints/{hook}/test")).json()["id"]
    await app.runtime.sessions.begin(owner.secret, "a browser")
    session = (await owner.get("/api/v1/identity/sessions")).json()["data"][0]["id"]
    await app.service("trading").seal()
    await owner.client.put("/api/v1/marketplace/rule", json={"kinds": {"embed": "0.1"}, "automatic": False})
    for_sale = {"miner": rented.id, "sells": "device", "price": "0.25"}
    looked_at = {"name": "nightly", "kind": "push", "interval_seconds": 86_400}
    monitor = (await (await app.admin()).post("/api/v1/monitoring/monitors", looked_at)).json()["id"]
    asks = {"token": new_key("enrol"), "public_key": Key.generate().public, "name": "attic"}
    asked = (await app.client().post("/api/v1/gpu/enrolment-codes", json=asks)).json()
    promise = {"name": "embed-gold", "work": "embed", "finish_seconds": 60, "price": "0.01"}
    await (await app.admin()).post("/api/v1/monitoring/service-classes", promise)
    bought = await owner.post("/api/v1/monitoring/class-purchases", {"service_class": "embed-gold"})
    offered = (await owner.post("/api/v1/marketplace/offers", for_sale)).json()["id"]
    later = (now() + timedelta(days=2)).isoformat()
    ahead = {"offer": offered, "duration_seconds": 3600, "max_price": "0.25", "starts_at": later}
    market_booking = (await owner.post("/api/v1/marketplace/bookings", ahead)).json()["id"]
    wish = {"filter": "region = nowhere", "duration_seconds": 600, "price_hour": "1"}
    bid = (await owner.post("/api/v1/marketplace/bids", wish)).json()["id"]
    nightly = {"cron": "30 2 * * *", "job": body}
    schedule = (await owner.post("/api/v1/ai/schedules", nightly)).json()["id"]
    voter = Key(bytes(range(32))).public
    await owner.client.put("/api/v1/governance/voter-keys", json={"public_key": voter})
    stake = (await owner.post("/api/v1/governance/stake/lock", {"amount": "1"})).json()["id"]
    await owner.post("/api/v1/hermes/edges", {"miner": miner.id, "location": "eu"})
    served = {"name": "one", "locations": ["eu"], "model": {"kind": "embed"}}
    deployment = (await owner.post("/api/v1/hermes/deployments", served)).json()["id"]
    worded = await owner.post("/api/v1/governance/proposals", {"title": "Words"})
    known = (
        await _trades(owner, await app.who("seller"))
        | await _agents(owner)
        | await _exchange(await app.admin(), owner)
        | await _bond(stocked, owner)
        | await _plugins(app, owner)
        | await _disputes(await app.who("buyer", funds="1"), miner, body)
        | {
            "market_offer": offered,
            "market_bid": bid,
            "market_booking": market_booking,
            "monitor": monitor,
            "enrolment_code": asked["code"],
            "service_class": "embed-gold",
            "class_purchase": bought.json()["id"],
            "schedule": schedule,
            "public_key": voter,
            "move": stake,
            "proposal": worded.json()["id"],
            "name": "trading.fee_basis_points",
            "kind": "embed",
            "deployment": deployment,
            "job": job,
            "attempt": lease["attempt"],
            "artifact": uploaded.json()["id"],
            "miner": miner.id,
            "listing": listing,
            "booking": booking,
            "key": spare.id,
            "session": session,
            "endpoint": hook,
            "delivery": sent,
            "account": owner.principal.account,
            "address": owner.principal.account,
            "q": owner.principal.account,
            "receipt": "rcpt_" + paid.removeprefix("job_"),
        }
    )
    names = {field.name for operation in OPERATIONS.values() for field in operation.parameters("path")}
    for name in sorted(names - known.keys()):
        known[name] = await _found(stocked, name) or new_id("nothing")
    return known


async def _disputes(buyer: Caller, miner: HandMiner, body: dict[str, Any]) -> dict[str, str]:
    """A job of somebody's that the miner did, and that is disputed."""
    job = (await buyer.post("/api/v1/ai/jobs", body)).json()["id"]
    (lease,) = await miner.poll()
    assert lease["job"] == job and (await miner.deliver(lease)).status_code == 200
    wish = {"subject": "rcpt_" + job.removeprefix("job_"), "reason": "x"}
    begun = await buyer.post("/api/v1/marketplace/disputes", wish)
    assert begun.status_code == 201, begun.text
    return {"market_dispute": begun.json()["id"]}


async def _exchange(admin: Caller, owner: Caller) -> dict[str, str]:
    """A pair of assets, and an order that rests in its book."""
    await admin.post("/api/v1/trading/assets", {"code": "GOLD", "name": "Gold of the arena"})
    steps = {"price_step": "0.0001", "quantity_step": "0.0001", "min_quantity": "0.01", "max_quantity": "1000"}
    made = await admin.post("/api/v1/trading/exchange/pairs", {"base": "GOLD", "quote": "AITBC", **steps})
    wish = {"pair": made.json()["id"], "side": "buy", "quantity": "0.5", "price": "0.25"}
    placed = await owner.post("/api/v1/trading/exchange/orders", wish)
    assert placed.status_code == 201, placed.text
    quoting = {"pair": made.json()["id"], "size": "0.5", "base_limit": "10", "quote_limit": "25"}
    maker = await owner.post("/api/v1/trading/exchange/makers", quoting)
    assert maker.status_code == 201, maker.text
    return {"pair": made.json()["id"], "order": placed.json()["id"], "market_maker": maker.json()["id"]}


async def _bond(stocked: StockedApp, owner: Caller) -> dict[str, str]:
    """A bond of the owner's, of which something is announced to be taken."""
    made = await owner.post("/api/v1/marketplace/bonds", {"amount": "1"})
    assert made.status_code == 201, made.text
    slash, dispute, account = (new_id(kind) for kind in ("slsh", "dspt", "acct"))
    await stocked.database.execute(
        "INSERT INTO marketplace.slashes (id, bond, dispute, owner, payer, amount_units, fee_units, state, due_at, created_at)"
        " VALUES ($1, $2, $3, $4, $5, 1, 0, 'announced', now() + interval '3 days', now())",
        *(decode("slsh", slash), decode("bond", made.json()["id"]), decode("dspt", dispute)),
        *(decode("acct", owner.principal.account), decode("acct", account)),
    )
    return {"slash": slash}


async def _agents(owner: Caller) -> dict[str, str]:
    """An agent, and a run of it that waited for a person and was canceled."""
    step = {"does": "approve", "name": "ok", "question": "Go on?", "within_seconds": 3600, "otherwise": "reject"}
    skill = {"id": "work", "name": "Work", "description": "Works.", "price": "0.01", "steps": [step]}
    agent = (await owner.post("/api/v1/hermes/agents", {"name": "one", "skills": [skill]})).json()["id"]
    run = (await owner.post("/api/v1/hermes/runs", {"agent": agent, "text": "please"})).json()["id"]
    await owner.post(f"/api/v1/hermes/runs/{run}/cancel")
    return {"agent": agent, "agent_run": run}


async def _plugins(app: TestApp, owner: Caller) -> dict[str, str]:
    """A plugin of the owner's that passed, and a licence that the owner bought of somebody else's."""
    sellers = []
    for caller in (owner, await app.who("publisher")):
        seller = await publisher(app, caller=caller)
        sellers.append((seller, await seller.publish(seller.manifest(word("plugin")), module("(i32.const 0)"))))
    (mine, version), (other, sold) = sellers
    installed = await (await app.admin()).post("/api/v1/plugins/installs", {"plugin": version["plugin"]})
    assert installed.status_code == 201, installed.text
    await other.caller.client.put(f"/api/v1/plugins/catalogue/{sold['plugin']}/terms", json={"price": "1"})
    licence = (await owner.post("/api/v1/plugins/licences", {"plugin": sold["plugin"]})).json()["id"]
    known = {"plugin": version["plugin"], "plugin_version": version["id"], "namespace": mine.namespace}
    return known | {"licence": licence}


async def _trades(buyer: Caller, seller: Caller) -> dict[str, str]:
    """A trade in each of its stages: an offer, requests, a match, a negotiation, and a settlement under way."""
    trading, offer = "/api/v1/trading", {"trade_type": "ai_power", "title": "x", "price": "0.1", "capacity": 9}
    known = {"offer": (await seller.post(f"{trading}/offers", offer)).json()["id"]}
    matches = []
    for _ in range(3):
        asked = (await buyer.post(f"{trading}/requests", {"trade_type": "ai_power", "title": "x"})).json()["id"]
        found = (await buyer.post(f"{trading}/requests/{asked}/matches")).json()["data"]
        known["trade_request"], known["match"] = asked, found[0]["id"]
        matches.append(known["match"])
    begun = await buyer.post(f"{trading}/matches/{matches[0]}/negotiations", {"price": "0.05"})
    known["negotiation"] = begun.json()["id"]
    known["agreement"] = (await buyer.post(f"{trading}/matches/{matches[1]}/accept", {})).json()["id"]
    known["settlement"] = (await buyer.post(f"{trading}/agreements/{known['agreement']}/settlement")).json()["id"]
    return known


async def _found(stocked: StockedApp, name: str) -> str | None:
    """What a place of this name may hold: made where its path without the place makes one, else the first that it lists."""
    for operation in OPERATIONS.values():
        above, found, _ = operation.path.partition("/{" + name + "}")
        beside = {one.method: one for one in OPERATIONS.values() if found and one.path == above}
        if "POST" in beside and beside["POST"].takes_json:
            made = await stocked.ask(stocked.call(beside["POST"]).headed("idempotency-key", name))
            if made.status == beside["POST"].success:
                return _name_of(made.json(), name)
        if "GET" in beside:
            for item in (await stocked.ask(beside["GET"].call(stocked.known, stocked.admin))).json().get("data", ()):
                return _name_of(item, name)
    return None


def _name_of(thing: dict[str, Any], name: str) -> str | None:
    return next((str(thing[key]) for key in ("id", name, "hash", "height", "name") if key in thing), None)

"""One of everything that pages show beside paid work: offers, bookings, trades, agents, plugins and proposals."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.primitives.clock import now
from tests.app import Caller
from tests.journeys.hand_miner import HandMiner, Place
from tests.kernel.hooks.plugins import manifest, module
from tests.modules.plugins.make import package, word

SECONDS = 60.0
PAIR = "GOLD-AITBC"
NEVER_MET = {"filter": "region = nowhere", "duration_seconds": 3600, "price_hour": "0.01", "label": "a test"}
RULES = {"AITBC_GOVERNANCE__DELAY_SECONDS": "{general = 1, parameters = 1}", "AITBC_MONITORING__STATUS_PAGE": "true"}
"""Settings with which voting starts at once, and everybody sees the status."""
PROGRAM = {"kind": "command", "max_price": "0.04"}
"""No miner here allows it, so that it waits."""
GRAPH = {"name": "two steps", "budget": "0.2", "nodes": [PROGRAM | {"name": "first", "input": {"program": "absent"}}]}
STUDY = PROGRAM | {
    "name": "a rate",
    "input": {"program": "absent", "arguments": ["--rate={{params.rate}}"]},
    "params": {"rate": {"type": "float", "low": 0.0, "high": 1.0}},
    "trials": 2,
    "budget": "0.2",
}


@dataclass
class Stock:
    """The ids of what is there, and the miner that is on sale."""

    miner: HandMiner
    work: str
    device: str
    """Offers of the owner's: of work, and of a GPU."""
    booking: str
    """A booking of that GPU, tomorrow."""
    bid: str
    """A bid of the buyer's that rests."""
    order: str
    """An order of the buyer's at the exchange that rests; another one bought some gold of the owner's."""
    request: str
    trade_offer: str
    match: str
    negotiation: str
    agreement: str
    settlement: str
    agent: str
    run: str
    """A run of that agent that waits for the buyer's word."""
    plugin: str
    """A plugin of the owner's, which is installed."""
    deployment: str
    """A deployment of the owner's to an edge and to a place without one."""
    proposal: str
    """A proposal of the buyer's that is voted on."""
    graph: str
    """A graph of the buyer's, which is paused."""
    study: str
    """A study of the buyer's, whose trials wait."""

    @property
    def pages(self) -> tuple[str, ...]:
        """A page of each."""
        trades = ("request", "offer", "match", "negotiation", "agreement", "settlement")
        plural = {"match": "matches"}
        ids = {name: getattr(self, "trade_offer" if name == "offer" else name) for name in trades}
        return (
            *(f"/market/offers/{self.work}", f"/market/offers/{self.device}", f"/market/bookings/{self.booking}"),
            *(f"/market/book/{self.bid}", f"/market/exchange/pairs/{PAIR}", f"/market/exchange/orders/{self.order}"),
            *(f"/trades/{plural.get(name, name + 's')}/{found}" for name, found in ids.items()),
            *(f"/agents/{self.agent}", f"/agents/{self.agent}/skills/work", f"/agents/runs/{self.run}"),
            *(f"/graphs/{self.graph}", f"/studies/{self.study}"),
            *(f"/plugins/{self.plugin}", f"/proposals/{self.proposal}", f"/proposals/{self.proposal}?days=30"),
        )


EMPTY: Any = None
"""Nothing: for files whose tests look at none of it."""


async def stocked(place: Place, buyer: Caller, owner: Caller) -> Stock:
    """Put one of everything into a market; the buyer has 300 AITBC or more."""
    miner = await HandMiner.enrol(place, owner, kinds=("ocr",), gpus=("NVIDIA H100 80GB HBM3",))
    await miner.beat()
    work, device, booking = await _market(buyer, owner, miner)
    agent, run = await _agents(buyer, owner)
    return Stock(
        miner=miner,
        work=work,
        device=device,
        booking=booking,
        bid=_id(await buyer.post("/api/v1/marketplace/bids", NEVER_MET)),
        order=await _exchange(place, buyer, owner),
        **await _trades(buyer, owner),
        agent=agent,
        run=run,
        plugin=await _plugin(place, owner),
        deployment=await _deployment(owner, miner),
        proposal=await _proposal(buyer),
        graph=await _graph(buyer),
        study=_id(await buyer.post("/api/v1/ai/studies", STUDY)),
    )


def _id(answer: httpx.Response) -> str:
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


async def _market(buyer: Caller, owner: Caller, miner: HandMiner) -> tuple[str, str, str]:
    path = "/api/v1/marketplace"
    work = {"miner": miner.id, "sells": "work", "kind": "ocr", "price": "0.001", "note": "Quiet at night."}
    device = {"miner": miner.id, "sells": "device", "price": "0.25", "interruptible": True}
    offers = [_id(await _until(lambda body=body: owner.post(f"{path}/offers", body), 201)) for body in (work, device)]
    ahead = {"offer": offers[1], "duration_seconds": 3600, "max_price": "0.25", "label": "a night of training"}
    tomorrow = (now() + timedelta(days=1)).isoformat()
    booking = _id(await buyer.post(f"{path}/bookings", ahead | {"starts_at": tomorrow}))
    return offers[0], offers[1], booking


async def _exchange(place: Place, buyer: Caller, seller: Caller) -> str:
    """Gold for AITBC: the seller asks 2 for each of ten, the buyer has one of them, and would have another for 1."""
    trading, admin = "/api/v1/trading", await place.admin()
    for path, body in (
        ("assets", {"code": "GOLD", "name": "Gold"}),
        ("exchange/pairs", {"base": "GOLD"}),
        ("deposits", {"account": seller.principal.account, "amount": "100", "asset": "GOLD", "reason": "stock"}),
    ):
        made = await admin.post(f"{trading}/{path}", body)
        assert made.status_code in (200, 201), made.text
    placed = [
        _id(
            await who.post(f"{trading}/exchange/orders", {"pair": PAIR, "side": side, "quantity": much, "price": price})
        )
        for who, side, much, price in ((seller, "sell", "10", "2"), (buyer, "buy", "1", "2"), (buyer, "buy", "1", "1"))
    ]
    return placed[-1]


async def _trades(buyer: Caller, seller: Caller) -> dict[str, str]:
    trading, kind = "/api/v1/trading", {"trade_type": "compute_resources", "title": "A GPU for a day"}
    offered = _id(await seller.post(f"{trading}/offers", kind | {"price": "1", "capacity": 9}))
    found: list[str] = []
    for _ in range(3):
        asked = _id(await buyer.post(f"{trading}/requests", kind | {"budget_max": "2"}))
        found.append((await buyer.post(f"{trading}/requests/{asked}/matches")).json()["data"][0]["id"])
    negotiation = _id(await seller.post(f"{trading}/matches/{found[0]}/negotiations", {"price": "1.1"}))
    agreement = _id(await buyer.post(f"{trading}/matches/{found[1]}/accept", {}))
    settlement = _id(await buyer.post(f"{trading}/agreements/{agreement}/settlement"))
    return {
        "request": asked,
        "trade_offer": offered,
        "match": found[2],
        "negotiation": negotiation,
        "agreement": agreement,
        "settlement": settlement,
    }


async def _agents(buyer: Caller, owner: Caller) -> tuple[str, str]:
    question = "Shall it be sent?"
    step = {"does": "approve", "name": "ok", "question": question, "within_seconds": 3600, "otherwise": "reject"}
    skill = {"id": "work", "name": "Work", "description": "Works.", "price": "0.01", "tags": ["text"], "steps": [step]}
    agent = _id(await owner.post("/api/v1/hermes/agents", {"name": "Worker", "skills": [skill]}))
    run = _id(await buyer.post("/api/v1/hermes/runs", {"agent": agent, "text": "please"}))
    await _state(buyer, f"/api/v1/hermes/runs/{run}", "input_required")
    return agent, run


async def _graph(buyer: Caller) -> str:
    graph = _id(await buyer.post("/api/v1/ai/graphs", GRAPH))
    assert (await buyer.post(f"/api/v1/ai/graphs/{graph}/pause")).status_code == 200
    return graph


async def _deployment(owner: Caller, miner: HandMiner) -> str:
    path = "/api/v1/hermes"
    made = await owner.post(f"{path}/edges", {"miner": miner.id, "location": "eu-central"})
    assert made.status_code == 201, made.text
    model = {"kind": "embed", "name": "wordllama-256"}
    wanted = {"name": "assistant", "locations": ["eu-central", "us-west"], "model": model}
    return _id(await owner.post(f"{path}/deployments", wanted))


async def _plugin(place: Place, owner: Caller) -> str:
    path, key, namespace = "/api/v1/plugins", Key.generate(), word()
    taken = await owner.post(f"{path}/namespaces", {"name": namespace, "public_key": key.public})
    assert taken.status_code == 201, taken.text
    declared = manifest(f"{namespace}.half", permissions=("log",))
    version = _id(await owner.post(f"{path}/versions", package(declared, module("(i32.const 0)"), key)))
    await _state(owner, f"{path}/versions/{version}", "passed")
    installed = await (await place.admin()).post(f"{path}/installs", {"plugin": declared.name, "grants": ["log"]})
    assert installed.status_code == 201, installed.text
    return declared.name


async def _proposal(buyer: Caller) -> str:
    path = "/api/v1/governance"
    locked = await buyer.post(f"{path}/stake/lock", {"amount": "150"})
    assert locked.status_code == 201, locked.text
    body = {"title": "What is built next?", "text": "One of them.", "ballot": "single", "options": ["this", "that"]}
    made = _id(await _until(lambda: buyer.post(f"{path}/proposals", {"class": "general"} | body), 201))
    await _state(buyer, f"{path}/proposals/{made}", "active")
    return made


async def _state(who: Caller, path: str, state: str) -> None:
    """Wait until something has come to a state."""
    async with asyncio.timeout(SECONDS):
        while (found := (await who.get(path)).json())["state"] != state:
            assert found["state"] not in ("rejected", "failed", "errored", "expired"), found
            await asyncio.sleep(0.1)


async def _until(ask: Any, status: int) -> httpx.Response:
    """Ask again until it is answered so: what other modules know comes a moment later."""
    async with asyncio.timeout(SECONDS):
        while (answer := await ask()).status_code != status:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.1)
    return answer  # type: ignore[no-any-return]

"""Builders for the tests of edges: edges that report by hand, deployments, and receipts as an edge signs them."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import httpx

from aitbc.kernel.crypto.signing import canonical
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.service.edges import life_bytes
from tests.app import Caller
from tests.modules.gpu.make import Rig
from tests.modules.hermes.make import HERMES, Town

EDGES = f"{HERMES}/edges"
DEPLOYMENTS = f"{HERMES}/deployments"
DIGEST = f"sha256:{'0' * 64}"
MODEL = {"model": {"kind": "embed", "name": "wordllama-256"}}


class HandEdge:
    """An edge that a test leads by hand: it says and signs what the test wants."""

    def __init__(self, town: Town, rig: Rig) -> None:
        self.town = town
        self.rig = rig
        self.journal = uuid.uuid4().hex
        self.address: str | None = None

    @property
    def id(self) -> str:
        """The miner."""
        return self.rig.id

    async def post(self, path: str, body: Any) -> httpx.Response:
        """A call with its key."""
        async with self.town.stage.client(self.rig.secret) as client:
            return await client.post(f"{HERMES}/edge/{path}", json=body)

    async def report(self, *states: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A report that is taken."""
        answer = await self.post("reports", {"states": states, "address": self.address} | changes)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def obey(self, state: str = "ready", problem: str = "") -> dict[str, Any]:
        """Report, and say of all that it is told to serve that it has come so far."""
        told = await self.report()
        said = [
            {
                "deployment": one["deployment"],
                "version": one["version"],
                "state": state,
                "problem": problem,
                "serves": one["version"] if state == "ready" else 0,
            }
            for one in told["desired"]
        ]
        return await self.report(*said)

    def receipt(self, deployment: str, sequence: int, **changes: Any) -> dict[str, Any]:
        """A signed receipt."""
        statement = {
            "statement": "aitbc.edge.v1",
            "edge": self.id,
            "deployment": deployment,
            "version": 1,
            "journal": self.journal,
            "sequence": sequence,
            "input_digest": DIGEST,
            "output_digest": DIGEST,
            "problem": "",
            "milliseconds": 3,
            "ended_at": now().isoformat(),
            "cut_off": False,
        } | changes
        text = canonical(statement).decode()
        return {"statement": text, "signature": self.rig.key.sign(text.encode())}

    async def bring(self, receipts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What became of receipts."""
        answer = await self.post("receipts", {"receipts": receipts})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def sign_of_life(self) -> dict[str, Any]:
        """What it shows to neighbours."""
        at = int(now().timestamp() * 1000)
        return {"edge": self.id, "at": at, "signature": self.rig.key.sign(life_bytes(self.id, at))}


async def an_edge(town: Town, owner: Caller, location: str) -> HandEdge:
    """An edge at a location, of which nothing was heard yet."""
    rig = await town.fleet.rig(owner)
    answer = await owner.post(EDGES, {"miner": rig.id, "location": location})
    assert answer.status_code == 201, answer.text
    assert answer.json()["presence"] == "unknown"
    return HandEdge(town, rig)


async def deployed(owner: Caller, *locations: str, plan: Any = None, **changes: Any) -> dict[str, Any]:
    """A deployment that is taken."""
    body = {"name": "assistant", "locations": locations, **MODEL} | changes
    answer = await owner.post(DEPLOYMENTS, body | ({"plan": plan} if plan else {}))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def seen(owner: Caller, deployment: str) -> dict[str, Any]:
    """A deployment as its owner sees it."""
    answer = await owner.get(f"{DEPLOYMENTS}/{deployment}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def changed(text: str, **changes: Any) -> str:
    """A signed statement that somebody has tampered with."""
    return canonical(json.loads(text) | changes).decode()

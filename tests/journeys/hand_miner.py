"""A miner by hand: enrols over HTTP and does what it is told to, one call at a time."""

from collections.abc import Sequence
from typing import Any, Protocol

import httpx

from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement, value_digest, work_statement
from tests.app import Caller


class Place(Protocol):
    """Where callers are: a test app in this process, or a test installation."""

    def client(self, secret: str | None = None) -> httpx.AsyncClient:
        """Somebody's client."""
        ...

    async def who(self, name: str = "someone", *, funds: str | None = None) -> Caller:
        """A new caller; with `funds` its account has play money."""
        ...

    async def admin(self) -> Caller:
        """The operator."""
        ...


class HandMiner:
    """A miner of somebody's, with its own key and its own client."""

    def __init__(self, key: Key, miner: str, client: httpx.AsyncClient) -> None:
        self.key = key
        self.id = miner
        self.client = client

    @classmethod
    async def enrol(
        cls,
        app: Place,
        owner: Caller,
        *,
        kinds: tuple[str, ...] = ("embed",),
        programs: tuple[str, ...] = (),
        slots: int = 4,
        gpus: Sequence[str] = (),
    ) -> "HandMiner":
        """Join the owner's account with a one-time token, and show GPUs of these names."""
        token = (await owner.post("/api/v1/gpu/enrolment-tokens", {})).json()["token"]
        key = Key.generate()
        body = {
            "token": token,
            "public_key": key.public,
            "proof": key.sign(canonical(enrolment_statement(token=token, public_key=key.public))),
            "name": "by hand",
            "slots": slots,
            "capabilities": {"kinds": list(kinds), "programs": list(programs)} | (_with(gpus) if gpus else {}),
            "inventory": {"devices": [{"type": "cuda", "name": name, "memory_total_mib": 81_559} for name in gpus]},
        }
        async with app.client() as open_client:
            answer = await open_client.post("/api/v1/gpu/enrolments", json=body)
        assert answer.status_code == 201, answer.text
        enrolled = answer.json()
        return cls(key, enrolled["miner"], app.client(enrolled["api_key"]))

    async def beat(self, *leases: dict[str, Any], busy: int = 0, slots: int = 4) -> dict[str, Any]:
        """Say that it lives."""
        held = [{"attempt": lease["attempt"], "token": lease["token"]} for lease in leases]
        body = {"slots": slots, "slots_busy": busy, "leases": held}
        answer = await self.client.post("/api/v1/gpu/heartbeats", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def poll(self, *, slots: int = 1, wait: float = 0) -> list[dict[str, Any]]:
        """Ask for work."""
        answer = await self.client.post("/api/v1/gpu/polls", json={"slots": slots, "wait_seconds": wait})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["leases"])

    def result(self, lease: dict[str, Any], output: Any = None) -> dict[str, Any]:
        """The signed result of a lease: made-up vectors of the right shape, since here only the road matters."""
        output = output or embedding(lease["input"]["texts"])
        digest = value_digest(output)
        statement = work_statement(
            job=lease["job"],
            attempt=lease["attempt"],
            token=lease["token"],
            miner=self.id,
            kind=lease["kind"],
            input_digest=lease["input_digest"],
            output_digest=digest,
        )
        return {
            "token": lease["token"],
            "output": output,
            "output_digest": digest,
            "usage": {"texts": 1},
            "signature": self.key.sign(canonical(statement)),
        }

    async def deliver(self, lease: dict[str, Any], output: Any = None) -> httpx.Response:
        """Deliver the result of a lease."""
        return await self.client.post(f"/api/v1/gpu/leases/{lease['attempt']}/result", json=self.result(lease, output))


def embedding(texts: list[str]) -> dict[str, Any]:
    """Vectors for some texts, in the shape that the kind wants."""
    vectors = [[float(len(text) % 7), 1.0] for text in texts]
    return {"model": "by-hand", "weights": f"sha256:{'0' * 64}", "dimensions": 2, "vectors": vectors}


def _with(gpus: Sequence[str]) -> dict[str, Any]:
    """What a miner with these GPUs says that it has."""
    return {"device": "gpu", "gpu_models": list(gpus), "vram_mib": 81_559}

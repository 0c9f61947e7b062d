"""Load that never lies: submitters that repeat every command until they know, and miners that come and go."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement, value_digest, work_statement
from tests.journeys.hand_miner import embedding

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
PRICE = "0.01"
START_SECONDS = 8
"""What a dead miner held runs out so soon, and the audit need not wait longer for it."""


@dataclass
class Acknowledged:
    """What the server acknowledged."""

    jobs: dict[str, str] = field(default_factory=dict)
    """Idempotency-Key to the job it made."""
    delivered: dict[str, str] = field(default_factory=dict)
    """Job to the receipt that a miner was promised."""
    unexpected: list[str] = field(default_factory=list)
    """Answers that no caller should ever see."""


class Client:
    """Calls one server, patiently."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession, told: Acknowledged) -> None:
        self._url = url
        self._key = key
        self._session = session
        self._told = told

    async def once(self, path: str, body: Any, key: str | None = None) -> tuple[int, Any]:
        """One try; status 0 when the connection broke."""
        headers = {"Authorization": f"Bearer {self._key}"} | ({"Idempotency-Key": key} if key else {})
        try:
            async with self._session.post(self._url + path, json=body, headers=headers) as answer:
                told = await answer.json(content_type=None)
                if answer.status >= 500 and answer.status != 503:
                    self._told.unexpected.append(f"{path}: {answer.status} {told}")
                if answer.status == 503 and "Retry-After" not in answer.headers:
                    self._told.unexpected.append(f"{path}: 503 without Retry-After")
                return answer.status, told
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, None

    async def until_known(self, path: str, body: Any, key: str | None = None) -> tuple[int, Any]:
        """Try until the answer is definite."""
        while True:
            status, told = await self.once(path, body, key)
            in_flight = status == 409 and told.get("code") == "idempotency_key_in_flight"
            if status not in RETRIED | {0} or (status == 409 and not in_flight):
                return status, told
            await asyncio.sleep(random.uniform(0.02, 0.2))


async def submit(client: Client, told: Acknowledged, count: int) -> None:
    """Submit jobs one after the other, each until it is known to be there."""
    for _ in range(count):
        key = uuid.uuid4().hex
        body = {"kind": "embed", "input": {"texts": [key]}, "max_price": PRICE, "retry": {"attempts_max": 10}}
        body["clocks"] = {"start_seconds": START_SECONDS}
        status, answer = await client.until_known("/api/v1/ai/jobs", body, key)
        assert status == 201, answer
        told.jobs[key] = answer["id"]


async def enrol(owner: Client, open_client: Client, name: str, slots: int) -> tuple[Key, str, str]:
    """A new miner: its key, its id and its API key."""
    while True:
        _, made = await owner.until_known("/api/v1/gpu/enrolment-tokens", {})
        key = Key.generate()
        statement = enrolment_statement(token=made["token"], public_key=key.public)
        body = {
            "token": made["token"],
            "public_key": key.public,
            "proof": key.sign(canonical(statement)),
            "name": name,
            "slots": slots,
            "capabilities": {"kinds": ["embed"]},
        }
        status, enrolled = await open_client.until_known("/api/v1/gpu/enrolments", body)
        if status == 201:
            return key, enrolled["miner"], enrolled["api_key"]


async def mine(client: Client, key: Key, miner: str, told: Acknowledged, *, pause: float) -> None:
    """Ask for work and deliver it, for ever; ends by cancellation, in the middle of anything."""
    while True:
        status, answer = await client.once("/api/v1/gpu/polls", {"slots": 2, "wait_seconds": 2})
        if status != 200:
            await asyncio.sleep(random.uniform(0.05, 0.3))
            continue
        for lease in answer["leases"]:
            await asyncio.sleep(random.uniform(0, pause))
            await _deliver(client, key, miner, lease, told)


async def _deliver(client: Client, key: Key, miner: str, lease: dict[str, Any], told: Acknowledged) -> None:
    output = embedding(lease["input"]["texts"])
    digest = value_digest(output)
    statement = work_statement(
        job=lease["job"],
        attempt=lease["attempt"],
        token=lease["token"],
        miner=miner,
        kind="embed",
        input_digest=lease["input_digest"],
        output_digest=digest,
    )
    body = {
        "token": lease["token"],
        "output": output,
        "output_digest": digest,
        "usage": {},
        "signature": key.sign(canonical(statement)),
    }
    status, answer = await client.until_known(f"/api/v1/gpu/leases/{lease['attempt']}/result", body)
    if status == 200 and answer["state"] == "succeeded":
        told.delivered[lease["job"]] = answer["receipt"]
    elif status != 409:
        told.unexpected.append(f"result: {status} {answer}")

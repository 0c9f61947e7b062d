"""Load that never lies: submitters that repeat every command until they know, and miners that come and go."""

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement, value_digest, work_statement
from tests.journeys.hand_miner import embedding

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
PRICE = "0.01"
START_SECONDS = 8
"""What a dead miner held runs out so soon, and the audit need not wait longer for it."""
ENDED_SECONDS = 6.0
"""A second after its revocation a key gets nothing more, and an answer takes its time on a busy machine."""


@dataclass
class Acknowledged:
    """What the server acknowledged."""

    jobs: dict[str, str] = field(default_factory=dict)
    """Idempotency-Key to the job it made."""
    delivered: dict[str, str] = field(default_factory=dict)
    """Job to the receipt that a miner was promised."""
    bookings: dict[str, str] = field(default_factory=dict)
    """Idempotency-Key to the booking it made."""
    uploads: dict[str, str] = field(default_factory=dict)
    """Artifact to the SHA-256 of what was sent."""
    followed: int = 0
    """How many jobs were followed to their end."""
    revoked: int = 0
    """How many keys ended while a miner asked for work with them."""
    unexpected: list[str] = field(default_factory=list)
    """Answers that no caller should ever see."""


class Client:
    """Calls one server, patiently."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession, told: Acknowledged) -> None:
        self._url = url
        self.key = key
        self._session = session
        self._told = told
        self.ends = False
        """Whether somebody revokes its key, so that it may be refused."""
        self.ended_at: float | None = None
        """When the revocation was acknowledged."""

    def headers(self, **more: str) -> dict[str, str]:
        """Its key, and more."""
        return {"Authorization": f"Bearer {self.key}", **more}

    async def get(self, path: str) -> tuple[int, Any]:
        """Read until there is an answer that is not for later."""
        while True:
            try:
                async with self._session.get(self._url + path, headers=self.headers()) as answer:
                    told = await answer.json(content_type=None)
                    if answer.status not in RETRIED:
                        return answer.status, told
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass
            await asyncio.sleep(random.uniform(0.02, 0.2))

    async def upload(self, path: str, content: AsyncIterator[bytes]) -> tuple[int, Any]:
        """Send a stream of bytes, once; status 0 when the connection broke."""
        headers = self.headers(**{"Content-Type": "application/octet-stream"})
        try:
            async with self._session.post(self._url + path, data=content, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, None

    async def download(self, path: str) -> tuple[int, bytes]:
        """Read bytes, once."""
        async with self._session.get(self._url + path, headers=self.headers()) as answer:
            return answer.status, await answer.read()

    async def events(self, path: str, after: str) -> AsyncIterator[tuple[str, str, Any]]:
        """The events of a stream from a place on, until it ends or breaks: kind, place and data."""
        headers = self.headers(**({"Last-Event-ID": after} if after else {}))
        async with self._session.get(self._url + path, headers=headers) as answer:
            if answer.status != 200:
                if answer.status != 503:
                    self._told.unexpected.append(f"{path}: {answer.status}")
                return
            fields: dict[str, str] = {}
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif fields:
                    if "data" in fields:
                        yield fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"])
                    fields = {}

    async def once(self, path: str, body: Any, key: str | None = None) -> tuple[int, Any]:
        """One try; status 0 when the connection broke."""
        headers = self.headers(**({"Idempotency-Key": key} if key else {}))
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


async def submit(client: Client, told: Acknowledged, count: int, *, pause: float = 0.0) -> None:
    """Submit jobs one after the other, each until it is known to be there, with a pause of some seconds after each."""
    for _ in range(count):
        key = uuid.uuid4().hex
        body = {"kind": "embed", "input": {"texts": [key]}, "max_price": PRICE, "retry": {"attempts_max": 10}}
        body["clocks"] = {"start_seconds": START_SECONDS}
        status, answer = await client.until_known("/api/v1/ai/jobs", body, key)
        assert status == 201, answer
        told.jobs[key] = answer["id"]
        await asyncio.sleep(pause)


async def enrol(
    owner: Client, open_client: Client, name: str, slots: int, *, gpus: Sequence[str] = (), on_gpus: bool = False
) -> tuple[Key, str, str]:
    """A new miner, which shows GPUs of these names, and may work on them: its key, its id and its API key."""
    works = {"device": "gpu", "gpu_models": list(gpus), "vram_mib": 24_564} if on_gpus else {}
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
            "capabilities": {"kinds": ["embed"], **works},
            "inventory": {"devices": [{"type": "cuda", "name": gpu, "memory_total_mib": 24_564} for gpu in gpus]},
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
        if answer["leases"] and client.ended_at is not None and time.monotonic() > client.ended_at + ENDED_SECONDS:
            told.unexpected.append(f"work for a key that was revoked: {answer}")
        for lease in answer["leases"]:
            await asyncio.sleep(random.uniform(0, pause))
            await deliver(client, key, miner, lease, told)


async def deliver(client: Client, key: Key, miner: str, lease: dict[str, Any], told: Acknowledged) -> None:
    """Deliver a lease until its outcome is known."""
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
    elif status != 409 and not (status == 401 and client.ends):
        told.unexpected.append(f"result: {status} {answer}")

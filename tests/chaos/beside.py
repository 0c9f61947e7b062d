"""Load beside plain jobs: GPUs that are booked and released, uploads that take their time, and followers of jobs."""

import asyncio
import hashlib
import random
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from aitbc.kernel.crypto.signing import Key
from aitbc.modules.ai.service.job_events import place_of
from tests.chaos.load import PRICE, START_SECONDS, Acknowledged, Client, deliver, enrol

GPU = "NVIDIA GeForce RTX 4090"
ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
JOBS_OF_A_BOOKING = 3
PATIENCE_SECONDS = 90.0
"""So long a GPU of one's own may be refused, a booking be unknown to ai, or its work go on after its release, while processes and
the bus die: an event that failed five times is tried again after half a minute."""
PIECES = 16
PIECE_BYTES = 4096


class Renter:
    """Somebody with a GPU of an own owner's, that nobody else books."""

    def __init__(self, buyer: Client, owner: Client, rig: Client, told: Acknowledged) -> None:
        self._buyer = buyer
        self._owner = owner
        self._rig = rig
        self._told = told
        self._key = Key.generate()
        self._miner = ""
        self._gpu = ""

    async def open(self, name: str, stranger: Client) -> None:
        """Enrol the miner that shows the GPU, and list it."""
        self._key, self._miner, secret = await enrol(self._owner, stranger, name, 2, gpus=(GPU,))
        self._rig.key = secret
        await self._rig.until_known("/api/v1/gpu/heartbeats", {"slots": 2, "slots_busy": 0, "leases": []})
        wish = {"model": "RTX 4090", "price_per_hour": "0.1", "miner": self._miner}
        status, listed = await self._owner.until_known("/api/v1/gpu/listings", wish, f"listing {name}")
        assert status == 201, listed
        self._gpu = listed["id"]

    async def run(self, over: asyncio.Event) -> None:
        """Book, have some work done and release, until it is over and everything is released."""
        beating = asyncio.create_task(self._beat())
        while not over.is_set():
            booking = await self._book()
            jobs = [await self._submit(booking) for _ in range(JOBS_OF_A_BOOKING)]
            await self._work()
            await asyncio.sleep(random.uniform(0, 0.3))
            status, released = await self._buyer.until_known(f"/api/v1/gpu/bookings/{booking}/release", {})
            if status != 200 or released["state"] != "released":
                self._told.unexpected.append(f"release: {status} {released}")
            for job in jobs:
                await self._ended(job)
        beating.cancel()

    async def _beat(self) -> None:
        while True:
            await self._rig.once("/api/v1/gpu/heartbeats", {"slots": 2, "slots_busy": 0, "leases": []})
            await asyncio.sleep(0.3)

    async def _book(self) -> str:
        """Ask under one key until it is booked: in the way is at most what the GPU's miner still stops."""
        key = uuid.uuid4().hex
        body = {"gpu": self._gpu, "duration_seconds": 3600, "max_price": "1"}
        status, booked = await self._patiently("/api/v1/gpu/bookings", body, key)
        assert status == 201, booked
        self._told.bookings[key] = booked["id"]
        return str(booked["id"])

    async def _submit(self, booking: str) -> str:
        key = uuid.uuid4().hex
        body = {"kind": "embed", "input": {"texts": [key]}, "max_price": PRICE, "requirements": {"booking": booking}}
        status, made = await self._patiently("/api/v1/ai/jobs", body, key)
        assert status == 201, made
        self._told.jobs[key] = made["id"]
        return str(made["id"])

    async def _patiently(self, path: str, body: Any, key: str) -> tuple[int, Any]:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            status, answer = await self._buyer.until_known(path, body, key)
            if status == 201 or time.monotonic() > end:
                return status, answer
            await asyncio.sleep(0.2)

    async def _work(self) -> None:
        """Take a job or two, and deliver one: the other is still leased at the release."""
        status, answer = await self._rig.once("/api/v1/gpu/polls", {"slots": random.choice((1, 2)), "wait_seconds": 1})
        if status == 200 and answer["leases"]:
            await deliver(self._rig, self._key, self._miner, answer["leases"][0], self._told)

    async def _ended(self, job: str) -> None:
        """The work of a booking that is over has ended, whether or not a process was away at its release."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (answer := await self._buyer.get(f"/api/v1/ai/jobs/{job}"))[1].get("state") not in ENDED:
            if time.monotonic() > end:
                self._told.unexpected.append(f"a job of a released booking goes on: {answer}")
                return
            await asyncio.sleep(0.1)


async def upload(client: Client, told: Acknowledged) -> None:
    """Upload for ever, slowly enough to be cut; what was acknowledged is known by its digest."""
    while True:
        content = random.randbytes(PIECES * PIECE_BYTES)

        async def pieces(content: bytes = content) -> AsyncIterator[bytes]:
            for at in range(0, len(content), PIECE_BYTES):
                yield content[at : at + PIECE_BYTES]
                await asyncio.sleep(0.02)

        status, made = await client.upload("/api/v1/ai/artifacts", pieces())
        if status == 201:
            told.uploads[made["id"]] = hashlib.sha256(content).hexdigest()
        elif status not in (0, 503):
            told.unexpected.append(f"upload: {status} {made}")
        await asyncio.sleep(0.05)


async def uploads_lost(client: Client, told: Acknowledged) -> list[str]:
    """The acknowledged uploads that do not come back as they went in."""
    lost = []
    for artifact, digest in told.uploads.items():
        status, content = await client.download(f"/api/v1/ai/artifacts/{artifact}")
        if status != 200 or hashlib.sha256(content).hexdigest() != digest:
            lost.append(f"{artifact}: {status}")
    return lost


async def follow(client: Client, told: Acknowledged) -> None:
    """Submit jobs and follow each to its end, over any number of streams that break."""
    while True:
        key = uuid.uuid4().hex
        body = {"kind": "embed", "input": {"texts": [key]}, "max_price": PRICE, "retry": {"attempts_max": 10}}
        body["clocks"] = {"start_seconds": START_SECONDS}
        status, made = await client.until_known("/api/v1/ai/jobs", body, key)
        assert status == 201, made
        told.jobs[key] = made["id"]
        last = ""
        ended = False
        while not ended:
            try:
                async for kind, place, data in client.events(f"/api/v1/ai/jobs/{made['id']}/events", last):
                    if place:
                        if last and place_of(place) <= place_of(last):
                            told.unexpected.append(f"a stream repeated {place} after {last}")
                        last = place
                    ended = ended or (kind == "state" and data.get("state") in ENDED)
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0 if ended else random.uniform(0.02, 0.2))
        told.followed += 1

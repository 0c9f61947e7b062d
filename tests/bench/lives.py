"""The load of paid jobs: every client submits one, claims one as a miner, delivers its result, and begins again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.crypto.signing import Key, canonical, value_digest, work_statement
from tests.bench.crowd import Buyer, Rig
from tests.bench.figures import quantile
from tests.bench.wire import UnixConnection, head, with_body

DIMENSIONS = 256
"""As many as the miner's own model gives."""
SENTENCE = "The quick brown fox jumps over the lazy dog, again and again."
JOB = msgspec.json.encode({"kind": "embed", "input": {"texts": [SENTENCE]}, "max_price": "0.05"})
BEAT_SECONDS = 10.0
BEAT = b'{"slots":4,"slots_busy":0}'


class Lease(Struct):
    """What a miner needs to know of a lease."""

    attempt: str
    job: str
    token: int
    input_digest: str


class Work(Struct):
    """The answer to a poll."""

    leases: list[Lease]


class Outcome(Struct):
    """The answer to a result."""

    state: str
    receipt: str | None


_work = msgspec.json.Decoder(Work)
_outcome = msgspec.json.Decoder(Outcome)


def vectors() -> dict[str, Any]:
    """An output as the miner's model gives it: one vector of 32-bit numbers."""
    dice = random.Random(1)
    vector = [round(dice.uniform(-1, 1), 8) for _ in range(DIMENSIONS)]
    return {"model": "wordllama-l2-256", "weights": "sha256:" + "0" * 64, "dimensions": DIMENSIONS, "vectors": [vector]}


OUTPUT = msgspec.json.encode(vectors())
OUTPUT_DIGEST = value_digest(vectors())


class Miner:
    """Asks for work and delivers it, over whatever connection it is given."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._key = Key(bytes.fromhex(rig.seed))
        self.beat = with_body(head("POST", "/api/v1/gpu/heartbeats", rig.key), BEAT)

    def poll(self, wait_seconds: float) -> bytes:
        """The request for one job."""
        body = b'{"slots":1,"wait_seconds":%g}' % wait_seconds
        return with_body(head("POST", "/api/v1/gpu/polls", self.rig.key), body)

    def result(self, lease: Lease) -> bytes:
        """The request that delivers, signed."""
        statement = work_statement(
            job=lease.job,
            attempt=lease.attempt,
            token=lease.token,
            miner=self.rig.id,
            kind="embed",
            input_digest=lease.input_digest,
            output_digest=OUTPUT_DIGEST,
        )
        body = b'{"token":%d,"output":%b,"output_digest":"%b","usage":{"texts":1},"signature":"%b"}' % (
            lease.token,
            OUTPUT,
            OUTPUT_DIGEST.encode(),
            self._key.sign(canonical(statement)).encode(),
        )
        return with_body(head("POST", f"/api/v1/gpu/leases/{lease.attempt}/result", self.rig.key), body)

    @staticmethod
    def leases(answer: tuple[int, bytes]) -> list[Lease]:
        """What a poll brought."""
        status, body = answer
        assert status == 200, body
        return _work.decode(body).leases


class Client:
    """One of the 64: a buyer and a miner in one, on one connection."""

    def __init__(self, wire: UnixConnection, buyer: Buyer, rig: Rig, name: str) -> None:
        self._wire = wire
        self._miner = Miner(rig)
        self._poll = self._miner.poll(5)
        self._submit = head("POST", "/api/v1/ai/jobs", buyer.key)
        self._name = name
        self._count = 0

    async def live(self) -> None:
        """One paid job, from the submission to the receipt."""
        self._count += 1
        once = b"idempotency-key: %b-%d\r\n" % (self._name.encode(), self._count)
        status, body = await self._wire.ask(with_body(self._submit, JOB, once))
        assert status == 201, body
        while not (leases := Miner.leases(await self._wire.ask(self._poll))):
            pass
        status, body = await self._wire.ask(self._miner.result(leases[0]))
        assert status == 200, body
        outcome = _outcome.decode(body)
        assert outcome.state == "succeeded" and outcome.receipt, body

    async def beat(self) -> None:
        """A sign of life."""
        status, body = await self._wire.ask(self._miner.beat)
        assert status == 200, body


async def run(plan: dict[str, Any], ready: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Live for some seconds; tells how many lives there were and how long one took."""
    ports, seconds = plan["ports"], plan["seconds"]
    buyers = msgspec.convert(plan["buyers"], list[Buyer])
    rigs = msgspec.convert(plan["rigs"], list[Rig])
    clients = [
        Client(await UnixConnection.open(ports[number % len(ports)]), buyer, rig, f"{plan['name']}-{number}")
        for number, (buyer, rig) in enumerate(zip(buyers, rigs, strict=True))
    ]
    for client in clients:
        await client.beat()
    await ready()
    end = perf_counter() + seconds
    took: list[float] = []

    async def busy(client: Client, beat_at: float) -> None:
        while (start := perf_counter()) < end:
            await client.live()
            took.append(perf_counter() - start)
            if perf_counter() > beat_at:
                await client.beat()
                beat_at += BEAT_SECONDS

    started = perf_counter()
    await asyncio.gather(*(busy(client, started + random.uniform(0, BEAT_SECONDS)) for client in clients))
    return {
        "lives": len(took),
        "seconds": perf_counter() - started,
        "p50_ms": quantile(took, 0.5) * 1000,
        "p99_ms": quantile(took, 0.99) * 1000,
    }

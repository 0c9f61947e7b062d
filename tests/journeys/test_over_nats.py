"""With a NATS server between the processes, events take that way, and the other one when it is gone."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app import Caller
from tests.journeys.hand_miner import HandMiner
from tests.journeys.shapes import MODULES, TestInstallation, one, placed
from tests.journeys.test_paid_job import submit
from tests.nats_server import NatsServer


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A running server."""
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.stop()


WITHIN = 60.0


async def ways(port: int, admin: Caller) -> dict[str, float]:
    """How many events the process at a port has told others, by way."""
    text = (await admin.client.get(f"http://127.0.0.1:{port}/metrics")).text
    return {way: float(count) for way, count in re.findall(r'aitbc_bus_events_total\{way="(\w+)"\} (\S+)', text)}


async def paid_job(installation: TestInstallation) -> None:
    """A job from its submission to its pay."""
    alice, owner = await installation.who("alice", funds="1"), await installation.who("owner")
    miner = await HandMiner.enrol(installation, owner)
    job = await submit(alice)
    [lease] = await miner.poll(wait=20)
    assert lease["job"] == job["id"]
    assert (await miner.deliver(lease)).json()["state"] == "succeeded"


async def test_events_between_split_modules_take_the_bus_and_the_direct_way_when_it_is_gone(
    nats: NatsServer, tmp_path: Path
) -> None:
    places = placed(**dict.fromkeys(MODULES, "split"))
    with one(tmp_path, places | {"AITBC_NATS_URL": nats.url}) as installation:
        admin, port = await installation.admin(), int(places["AITBC_MODULES__AI__PORT"])
        told = {"bus": 0.0, "direct": 0.0}

        for way in ("bus", "direct"):
            await paid_job(installation)
            async with asyncio.timeout(WITHIN):
                while (await ways(port, admin))[way] <= told[way]:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
            told = await ways(port, admin)
            nats.stop()

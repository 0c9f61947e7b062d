"""What was to be sent when a process ended is sent by another one; two at once send it once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from standardwebhooks import Webhook

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.server.webhooks.delivery import LEASE
from tests.app import TestApp, running_app
from tests.scale import only_in_full
from tests.server.webhooks.conftest import INSIDE, cleared
from tests.server.webhooks.receiver import OK, receiving
from tests.server.webhooks.test_delivery import heard, silence
from tests.server.webhooks.test_endpoints import ENDPOINTS, ended, endpoint_of, paid_job


@pytest.fixture(scope="module")
async def other_app(file_app: TestApp, target: Target) -> AsyncIterator[TestApp]:
    """Another process of the same installation: of the same database and secrets."""
    async with running_app(target, file_app.runtime.settings.state_dir, webhooks=INSIDE) as app:
        yield app


@pytest.fixture
async def other(other_app: TestApp, stage: TestApp, target: Target) -> AsyncIterator[TestApp]:
    """The other process, which sends nothing until it is told to."""
    room = other_app.runtime.webhooks.worker._in_flight_max
    other_app.runtime.webhooks.worker._in_flight_max = 0
    yield other_app
    await cleared(other_app, target)
    other_app.runtime.webhooks.worker._in_flight_max = room


def begin(app: TestApp) -> None:
    """Let a process send."""
    app.runtime.webhooks.worker._in_flight_max = INSIDE.in_flight_max
    app.runtime.webhooks.worker.wake()


async def end(app: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sending of a process end as it does with the process: in the middle of a request."""
    monkeypatch.setattr(app.runtime.webhooks.worker, "_in_flight_max", 0)
    await app.runtime.webhooks.worker.close()


async def test_what_was_heard_is_sent_after_a_crash_before_the_sending(
    stage: TestApp, other: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(stage, monkeypatch)
    async with receiving() as receiver:
        who = await stage.who(funds="10")
        made = await endpoint_of(who, receiver)
        job = await paid_job(stage, who)
        await heard(who)
        assert receiver.received == []
        begin(other)
        (message,) = await receiver.until(1)
        assert Webhook(made["secret"]).verify(message.body, message.headers)["data"]["job"] == job["id"]


async def test_what_was_on_its_way_is_sent_again_under_the_same_id(
    stage: TestApp, other: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving(silence) as receiver:
        who = await stage.who()
        made = await endpoint_of(who, receiver)
        await who.post(f"{ENDPOINTS}/{made['id']}/test")
        await receiver.until(1)
        await end(stage, monkeypatch)
        receiver.answer = OK
        begin(other)
        await asyncio.sleep(0.2)
        assert len(receiver.received) == 1  # leased, for all that anybody knows
        clock.move(LEASE + timedelta(seconds=1))
        begin(other)
        first, second = await receiver.until(2)
        assert (first.id, first.body) == (second.id, second.body)
        found = await ended(who, first.id)
        assert (found["state"], found["attempts"]) == ("delivered", 2)


@only_in_full
async def test_two_processes_send_a_message_once(stage: TestApp, other: TestApp) -> None:
    begin(other)
    async with receiving() as receiver:
        who = await stage.who()
        made = await endpoint_of(who, receiver)
        for _ in range(15):
            await who.post(f"{ENDPOINTS}/{made['id']}/test")
            other.runtime.webhooks.worker.wake()
        await receiver.until(15)
        await asyncio.sleep(0.2)
        assert len({one.id for one in receiver.received}) == len(receiver.received) == 15

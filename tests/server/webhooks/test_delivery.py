"""Receivers that are down, slow, endless, redirecting or gone cost nobody else anything, and nothing that was heard is lost."""

import asyncio
import gzip
import re
import socket
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.primitives import clock
from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks import delivery, retention
from aitbc.server.webhooks.delivery import FAILING_MAX, IN_FLIGHT_PER_ENDPOINT, RETRY_DELAYS
from aitbc.server.webhooks.egress import EgressPolicy
from aitbc.server.webhooks.retention import UNSENT_KEPT
from tests.app import Caller, TestApp
from tests.server.webhooks.conftest import INSIDE
from tests.server.webhooks.receiver import OK, Answer, Receiver, receiving, status
from tests.server.webhooks.test_endpoints import DELIVERIES, ENDPOINTS, JOB, ended, endpoint_of, paid_job

QUICK = 0.5


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No receiver gets long."""
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", QUICK)


def nowhere() -> str:
    """Where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


async def attempted(who: Caller, delivery: str, times: int = 1) -> dict[str, Any]:
    """A delivery, once so many attempts came to an end."""
    for _ in range(1500):
        found = dict((await who.get(f"{DELIVERIES}/{delivery}")).json())
        if (
            found["attempts"] >= times
            and found["attempted_at"] is not None
            and (found["state"] != "pending" or found["error"] is not None)
        ):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def heard(who: Caller) -> dict[str, Any]:
    """The first delivery of somebody's, once there is one."""
    for _ in range(1500):
        for found in (await who.get(DELIVERIES)).json()["data"]:
            return dict(found)
        await asyncio.sleep(0.02)
    raise AssertionError("nothing was heard")


async def told_by(who: Caller, receiver: Receiver) -> dict[str, Any]:
    """What came of a test message to a receiver."""
    made = await endpoint_of(who, receiver)
    delivery = (await who.post(f"{ENDPOINTS}/{made['id']}/test")).json()
    return await attempted(who, delivery["id"])


async def silence(writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.sleep(60)


async def dripping(writer: asyncio.StreamWriter) -> None:
    """A head that comes byte by byte and never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    """A head that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def one_long_header(writer: asyncio.StreamWriter) -> None:
    """A header without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


def endless(head: bytes, content: bytes, sent: list[int]) -> Answer:
    """An answer whose body never ends; notes how much of it could be sent."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(content)
            sent.append(len(content))
            await writer.drain()

    return answer


# F22 and S23 ----------------------------------------------------------------------------------------------------------


async def test_a_receiver_that_is_down_is_tried_again_and_nothing_else_notices(stage: TestApp) -> None:
    who = await stage.who(funds="10")
    answer = await who.post(ENDPOINTS, {"url": nowhere()})
    assert answer.status_code == 201
    job = await paid_job(stage, who)
    assert job["state"] == "succeeded"
    delivery = await heard(who)
    found = await attempted(who, delivery["id"])
    assert (found["state"], found["status"], found["error"]) == ("pending", None, "nothing listens there")
    assert (await who.get(f"{ENDPOINTS}/{answer.json()['id']}")).json()["failing_since"] is not None


async def test_slow_receivers_delay_nobody_else(stage: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for 24 messages, and more than that wait for receivers that never answer."""
    monkeypatch.setattr(stage.runtime.webhooks.worker, "_in_flight_max", 5 * IN_FLIGHT_PER_ENDPOINT + 4)
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", 60.0)
    async with receiving(silence) as deaf, receiving() as receiver:
        slow, well = await stage.who(), await stage.who()
        for _ in range(5):
            made = await endpoint_of(slow, deaf)
            for _ in range(10):
                assert (await slow.post(f"{ENDPOINTS}/{made['id']}/test")).status_code == 201
        await deaf.until(5 * IN_FLIGHT_PER_ENDPOINT)
        good = await endpoint_of(well, receiver)
        for _ in range(10):
            await well.post(f"{ENDPOINTS}/{good['id']}/test")
        await receiver.until(10)  # long before the others are given up
        assert len(deaf.received) == 5 * IN_FLIGHT_PER_ENDPOINT
        assert (await well.post("/api/v1/ai/jobs", JOB)).status_code == 402  # asked and answered as ever


async def test_an_endpoint_that_fails_gets_one_message_at_a_time(stage: TestApp, impatient: None) -> None:
    who = await stage.who()
    async with receiving(silence) as deaf:
        found = await told_by(who, deaf)
        assert found["error"] == f"no answer within {QUICK:g} s"
        for _ in range(6):
            await who.post(f"{ENDPOINTS}/{found['endpoint']}/test")
        await deaf.until(3)
        assert len(stage.runtime.webhooks.worker._tasks) <= 1


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        (status(204), "delivered", None),
        (status(500), "pending", "HTTP 500"),
        (status(404), "pending", "HTTP 404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "pending", "broke"),
        (b"", "pending", "closed the connection"),
        (dripping, "pending", "no answer within"),
        (endless_headers, "pending", "broke"),
        (one_long_header, "pending", "broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "pending", "broke"),
    ],
)
async def test_odd_answers_are_bounded_and_told_apart(
    stage: TestApp, impatient: None, answer: Answer, state: str, said: str | None
) -> None:
    async with receiving(answer) as receiver:
        found = await told_by(await stage.who(), receiver)
        assert found["state"] == state
        assert found["error"] is None if said is None else said in found["error"]


@pytest.mark.parametrize("coding", ["", "Content-Encoding: gzip\r\n"], ids=["plain", "gzip bomb"])
async def test_an_endless_answer_is_not_read(stage: TestApp, coding: str) -> None:
    sent: list[int] = []
    head = f"HTTP/1.1 200 OK\r\n{coding}Content-Type: application/json\r\n\r\n".encode()
    content = gzip.compress(bytes(1 << 20)) * 64 if coding else b"x" * 65_536
    async with receiving(endless(head, content, sent)) as receiver:
        found = await told_by(await stage.who(), receiver)
        assert (found["state"], found["status"]) == ("delivered", 200)  # long before the end of the patience
        assert sum(sent) < 64 << 20


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(stage: TestApp, code: int) -> None:
    async with receiving() as inside:
        for where in (inside.url, "file:///etc/passwd", "https://hooks.example/"):
            async with receiving(status(code, f"Location: {where}\r\n")) as receiver:
                found = await told_by(await stage.who(), receiver)
                assert (found["state"], found["status"]) == ("pending", code)
                assert "redirects are not followed" in found["error"]
        assert inside.received == []


async def test_410_ends_the_delivery_and_the_endpoint(stage: TestApp) -> None:
    who = await stage.who(funds="10")
    async with receiving(status(410)) as receiver:
        found = await told_by(who, receiver)
        assert (found["state"], found["status"], found["attempts"]) == ("dead", 410, 1)
        made = (await who.get(f"{ENDPOINTS}/{found['endpoint']}")).json()
        assert (made["enabled"], made["disabled_reason"]) == (False, "gone")
        await paid_job(stage, who)
        await asyncio.sleep(0.1)
        assert len(receiver.received) == 1
        assert (await who.post(f"{DELIVERIES}/{found['id']}/replay")).json()["code"] == "webhook_endpoint_disabled"
        receiver.answer = OK
        await who.post(f"{ENDPOINTS}/{made['id']}/enable")
        await who.post(f"{DELIVERIES}/{found['id']}/replay")
        assert (await ended(who, found["id"]))["state"] == "delivered"


async def test_410_of_an_old_address_says_nothing_about_the_new_one(stage: TestApp) -> None:
    who = await stage.who()
    gate = asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(status(410))
        await writer.drain()

    async with receiving(late) as old, receiving() as new:
        made = await endpoint_of(who, old)
        delivery = (await who.post(f"{ENDPOINTS}/{made['id']}/test")).json()
        await old.until(1)
        await who.client.put(f"{ENDPOINTS}/{made['id']}", json={"url": new.url})
        gate.set()
        await ended(who, delivery["id"])
        assert (await who.get(f"{ENDPOINTS}/{made['id']}")).json()["enabled"] is True


async def test_a_name_that_leads_inside_is_refused_when_it_is_sent_to(
    stage: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was fine when the endpoint was made."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]
    await stage.runtime.webhooks.worker.close()  # its connections follow the policy that they began with
    monkeypatch.setattr(stage.runtime.webhooks.worker, "_egress", EgressPolicy(WebhookSettings()))
    who = await stage.who()
    made = (await who.post(ENDPOINTS, {"url": "https://hooks.example/"})).json()
    monkeypatch.setattr("aitbc.server.webhooks.egress.socket.getaddrinfo", lambda *_: found)
    delivery = (await who.post(f"{ENDPOINTS}/{made['id']}/test")).json()
    told = await attempted(who, delivery["id"])
    assert (told["state"], told["status"]) == ("pending", None)
    assert told["error"] == "The name leads to an address that is not public."


# Again, and the end ---------------------------------------------------------------------------------------------------


async def test_a_message_is_tried_for_days_at_the_times_of_the_standard_and_is_then_dead(stage: TestApp) -> None:
    who = await stage.who()
    async with receiving(status(503)) as receiver:
        made = await endpoint_of(who, receiver)
        delivery = (await who.post(f"{ENDPOINTS}/{made['id']}/test")).json()
        for number, pause in enumerate(RETRY_DELAYS, 1):
            await receiver.until(number)
            await stage.runtime.webhooks.worker.wait_until_idle()
            found = (await who.get(f"{DELIVERIES}/{delivery['id']}")).json()
            assert (found["state"], found["attempts"], found["error"]) == ("pending", number, "HTTP 503")
            due = await _until_due(stage)
            assert pause * 0.89 <= due <= pause * 1.11
            clock.move(max(due, pause) + timedelta(seconds=1))  # short pauses by chance would end before FAILING_MAX
            stage.runtime.webhooks.worker.wake()
        found = await ended(who, delivery["id"])
        assert (found["state"], found["attempts"], found["next_attempt_at"]) == ("dead", len(RETRY_DELAYS) + 1, None)
        assert {one.id for one in receiver.received} == {delivery["id"]}
        made = (await who.get(f"{ENDPOINTS}/{made['id']}")).json()
        assert (made["enabled"], made["disabled_reason"]) == (False, "failing")


async def _until_due(stage: TestApp) -> timedelta:
    async with stage.runtime.platform.kernel.raw() as connection:
        row = await connection.fetchrow(
            "SELECT due_at - attempted_at AS pause FROM kernel.webhook_deliveries ORDER BY id DESC LIMIT 1"
        )
    assert row is not None and isinstance(row["pause"], timedelta)
    return row["pause"]


async def test_one_success_makes_a_failing_endpoint_a_good_one(stage: TestApp) -> None:
    who = await stage.who()
    async with receiving(status(500)) as receiver:
        found = await told_by(who, receiver)
        path = f"{ENDPOINTS}/{found['endpoint']}"
        assert (await who.get(path)).json()["failing_since"] is not None
        clock.move(FAILING_MAX / 2)
        receiver.answer = OK
        await who.post(f"{path}/test")
        assert (await ended(who, found["id"]))["state"] == "delivered"  # the one that failed comes again too
        assert (await who.get(path)).json()["failing_since"] is None


async def test_what_waits_while_an_endpoint_is_disabled_is_sent_when_it_is_enabled_or_given_up(stage: TestApp) -> None:
    who = await stage.who()
    async with receiving(status(500)) as receiver:
        found = await told_by(who, receiver)
        path = f"{ENDPOINTS}/{found['endpoint']}"
        await who.post(f"{path}/disable")
        clock.move(timedelta(hours=1))
        stage.runtime.webhooks.worker.wake()
        await asyncio.sleep(0.1)
        assert len(receiver.received) == 1
        receiver.answer = OK
        await who.post(f"{path}/enable")
        assert (await ended(who, found["id"]))["state"] == "delivered"
        receiver.answer = status(500)
        lost = (await who.post(f"{path}/test")).json()
        await attempted(who, lost["id"])
        await who.post(f"{path}/disable")
        clock.move(UNSENT_KEPT + timedelta(minutes=1))
        await stage.runtime.webhooks.purge(stage.runtime.retention.of_deliveries())
        assert (await who.get(f"{DELIVERIES}/{lost['id']}")).json()["state"] == "dead"


async def test_the_log_is_kept_for_days_and_an_endpoint_nobody_can_serve_is_disabled(
    stage: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await stage.who()
    async with receiving() as receiver:
        found = await told_by(who, receiver)
        await stage.runtime.webhooks.purge(stage.runtime.retention.of_deliveries())
        assert (await who.get(f"{DELIVERIES}/{found['id']}")).status_code == 200
        clock.move(timedelta(days=INSIDE.kept_days, minutes=1))
        await stage.runtime.webhooks.purge(stage.runtime.retention.of_deliveries())
        assert (await who.get(f"{DELIVERIES}/{found['id']}")).status_code == 404
        monkeypatch.setattr(retention, "PENDING_MAX", 2)
        receiver.answer = silence
        for _ in range(3):
            await who.post(f"{ENDPOINTS}/{found['endpoint']}/test")
        await stage.runtime.webhooks.purge(stage.runtime.retention.of_deliveries())
        made = (await who.get(f"{ENDPOINTS}/{found['endpoint']}")).json()
        assert (made["enabled"], made["disabled_reason"]) == (False, "overrun")


async def test_what_became_of_messages_is_counted(stage: TestApp) -> None:
    who, admin = await stage.who(), await stage.admin()
    before = dict(stage.runtime.webhooks.worker.outcomes)
    async with receiving() as receiver:
        for answer in (OK, status(500), status(410)):
            receiver.answer = answer
            await told_by(who, receiver)
    for _ in range(200):  # one is counted a moment after it was heard, and those of earlier tests may come beside it
        told = (await admin.get("/metrics")).text
        counts = dict(re.findall(r'aitbc_webhook_deliveries_total\{outcome="(\w+)"\} ([0-9.]+)', told))
        if all(float(counts.get(name, 0)) > count for name, count in before.items()):
            break
        await asyncio.sleep(0.1)
    assert all(float(counts[name]) > count for name, count in before.items()), (counts, before)
    assert (await admin.get("/readyz")).status_code == 200

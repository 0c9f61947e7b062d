"""An account is told of its own events, by messages that the reference library of Standard Webhooks accepts; nobody else is."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.ids import new_id, new_uuid
from aitbc.kernel.primitives.trace_context import span_id_of
from aitbc.modules.ai.events import JobClosed
from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks.delivery_log import TESTS_MAX
from aitbc.server.webhooks.egress import EgressPolicy
from aitbc.server.webhooks.fan_out import published_types
from tests.app import Caller, TestApp
from tests.journeys.hand_miner import HandMiner
from tests.server.webhooks.receiver import Received, Receiver

ENDPOINTS = "/api/v1/webhooks/endpoints"
DELIVERIES = "/api/v1/webhooks/deliveries"
TRACE = "0af7651916cd43dd8448eb211c80319c"
JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05"}


async def endpoint_of(who: Caller, receiver: Receiver, **more: Any) -> dict[str, Any]:
    """An endpoint of somebody's at a receiver."""
    answer = await who.post(ENDPOINTS, {"url": receiver.url, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def paid_job(stage: TestApp, who: Caller) -> dict[str, Any]:
    """A job that was submitted under a trace, done and paid."""
    miner = await HandMiner.enrol(stage, who)
    await miner.beat()
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "Idempotency-Key": uuid4().hex}
    job = (await who.client.post("/api/v1/ai/jobs", json=JOB, headers=headers)).json()["id"]
    (lease,) = await miner.poll()
    assert (await miner.deliver(lease)).status_code == 200
    return dict((await who.get(f"/api/v1/ai/jobs/{job}")).json())


async def ended(who: Caller, delivery: str) -> dict[str, Any]:
    """A delivery, once nothing more becomes of it."""
    for _ in range(1500):
        found = dict((await who.get(f"{DELIVERIES}/{delivery}")).json())
        if found["state"] != "pending":
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(found)


def verified(message: Received, secret: str) -> dict[str, Any]:
    """What a message says, read by the reference library."""
    return dict(Webhook(secret).verify(message.body, message.headers))


# Telling --------------------------------------------------------------------------------------------------------------


async def test_a_paid_job_is_told_at_once_and_signed(
    stage: TestApp, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = clock.now()
    monkeypatch.setattr(clock, "_source", lambda: stopped)  # the relay comes some seconds after an event, so never
    who, other = await stage.who(funds="10"), await stage.who("other", funds="10")
    endpoint = await endpoint_of(who, receiver)
    assert endpoint["secret"].startswith("whsec_")
    job = await paid_job(stage, who)
    await paid_job(stage, other)
    (message,) = await receiver.until(1)
    told = verified(message, endpoint["secret"])
    assert told["type"] == "ai.job_succeeded"
    assert told["timestamp"].endswith("Z")
    assert told["data"]["job"] == job["id"]
    assert {"state", "price", "units", "output_digest"} <= told["data"].keys()
    assert (told["data"]["price"], told["data"]["state"]) == (job["price"], "succeeded")
    assert len(message.body) < 1000
    assert message.headers["content-type"] == "application/json"
    found = await ended(who, message.id)
    assert (found["state"], found["attempts"], found["status"], found["error"]) == ("delivered", 1, 200, None)
    assert found["body"].encode() == message.body
    assert message.headers["traceparent"] == f"00-{TRACE}-{span_id_of(f'{message.id}/1')}-01"
    assert found["trace_id"] == TRACE
    # The relay brings the same event once more, and finds that it was told.
    monkeypatch.undo()
    clock.move(timedelta(minutes=1))
    for relay in stage.runtime.wired.relays:
        await relay.deliver_due()
    await asyncio.sleep(0.1)
    assert len(receiver.received) == 1
    assert (await other.get(DELIVERIES)).json()["data"] == []


async def test_what_cannot_be_heard_at_once_is_brought_by_the_relay(
    stage: TestApp, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await stage.who(funds="10")
    await endpoint_of(who, receiver)
    away = Database("kernel", Target(host="/nonexistent", port=1, user="x", database="x"), [])
    with monkeypatch.context() as patch:
        patch.setattr(stage.runtime.webhooks._fan_out, "_database", away)
        job = await paid_job(stage, who)
        assert (job["state"], job["receipt"] is not None) == ("succeeded", True)
        await asyncio.sleep(0.2)
    await away.close()
    assert receiver.received == []
    clock.move(timedelta(seconds=6))
    for relay in stage.runtime.wired.relays:
        await relay.deliver_due()
    (message,) = await receiver.until(1)
    assert message.told["data"]["job"] == job["id"]
    assert message.headers["traceparent"].split("-")[1] == TRACE


class ParcelArrived(Event, frozen=True, kw_only=True):
    """A parcel arrived: the event of a module that knows nothing of webhooks."""

    kind = "parcels.parcel_arrived"
    concerns = ("owner",)
    parcel: str
    owner: str

    def public(self) -> dict[str, Any]:
        """The parcel."""
        return {"parcel": self.parcel}


async def test_an_event_of_any_module_is_told_if_it_says_whom_it_concerns(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    endpoint = await endpoint_of(who, receiver, events=["parcels.parcel_arrived"])
    parcel = new_id("parcel")
    ledger = stage.runtime.wired.databases["trading"]  # any outbox will do
    async with ledger.unit_of_work() as uow:
        uow.publish(ParcelArrived(parcel=parcel, owner=who.principal.account))
        uow.publish(ParcelArrived(parcel="of nobody", owner=new_id("acct")))
    (message,) = await receiver.until(1)
    told = verified(message, endpoint["secret"])
    assert (told["type"], told["data"]) == ("parcels.parcel_arrived", {"parcel": parcel})


async def test_a_job_that_ended_without_success_is_told_too(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who(funds="10")
    endpoint = await endpoint_of(who, receiver, events=["ai.job_closed"])
    job = (await who.post("/api/v1/ai/jobs", JOB)).json()["id"]
    assert (await who.post(f"/api/v1/ai/jobs/{job}/cancel")).status_code == 200
    (message,) = await receiver.until(1)
    told = verified(message, endpoint["secret"])
    assert told["type"] == "ai.job_closed"
    assert told["data"] == {"job": job, "state": "canceled", "reason": told["data"]["reason"]}


async def test_an_endpoint_is_told_of_its_types_only(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who(funds="10")
    await endpoint_of(who, receiver, events=["ai.job_closed"])
    await paid_job(stage, who)
    job = (await who.post("/api/v1/ai/jobs", JOB)).json()["id"]
    await who.post(f"/api/v1/ai/jobs/{job}/cancel")
    (message,) = await receiver.until(1)
    await asyncio.sleep(0.1)
    assert [one.told["type"] for one in receiver.received] == ["ai.job_closed"]
    assert message.told["data"]["job"] == job


async def test_an_event_that_is_heard_again_is_told_once(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    await endpoint_of(who, receiver)
    event = JobClosed(job=new_id("job"), hold="", state="failed", reason="x", account=who.principal.account)
    webhooks, id_ = stage.runtime.webhooks, new_uuid()
    for _ in range(3):
        await webhooks.receive([(id_, event), (id_, event)])
    await webhooks.receive(
        [(new_uuid(), JobClosed(job="", hold="", state="failed", reason="told by an older program"))]
    )
    await receiver.until(1)
    await asyncio.sleep(0.1)
    assert len(receiver.received) == len((await who.get(DELIVERIES)).json()["data"]) == 1


def test_what_is_told_is_declared_by_the_events_and_says_what_it_may() -> None:
    assert {"ai.job_succeeded", "ai.job_closed"} <= published_types().keys()
    assert all(event.public is not Event.public for event in published_types().values())
    with pytest.raises(TypeError, match="no field nobody"):

        class Odd(Event, frozen=True, kw_only=True):
            """An event about nobody."""

            kind = "probe.odd"
            concerns = ("nobody",)


# Secrets --------------------------------------------------------------------------------------------------------------


async def test_while_a_secret_is_replaced_both_are_good(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    old = await endpoint_of(who, receiver)
    answer = await who.post(f"{ENDPOINTS}/{old['id']}/rotate", {"overlap_seconds": 60})
    new = answer.json()
    assert answer.status_code == 201 and new["secret"] != old["secret"]
    assert new["previous_secret_until"] is not None
    await who.post(f"{ENDPOINTS}/{old['id']}/test")
    (message,) = await receiver.until(1)
    assert message.headers["webhook-signature"].count("v1,") == 2
    for secret in (old["secret"], new["secret"]):
        assert verified(message, secret)["type"] == "webhook.test"
    await ended(who, message.id)
    clock.move(timedelta(seconds=61))
    await who.post(f"{ENDPOINTS}/{old['id']}/test")
    _, message = await receiver.until(2)
    assert verified(message, new["secret"])
    with pytest.raises(WebhookVerificationError):
        verified(message, old["secret"])
    await stage.runtime.webhooks.purge(stage.runtime.retention.of_deliveries())
    assert (await who.get(f"{ENDPOINTS}/{old['id']}")).json()["previous_secret_until"] is None


async def test_a_secret_is_shown_once_and_lies_sealed(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    body = {"url": receiver.url}
    first, again = [await who.post(ENDPOINTS, body, once="one wish") for _ in range(2)]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    made = first.json()
    rotated = [(await who.post(f"{ENDPOINTS}/{made['id']}/rotate", {}, once="r")).json() for _ in range(2)]
    assert rotated[0] == rotated[1] and rotated[0]["secret"] != made["secret"]
    for answer in (await who.get(ENDPOINTS), await who.get(f"{ENDPOINTS}/{made['id']}")):
        assert 'secret":' not in answer.text and "whsec" not in answer.text
    async with stage.runtime.platform.kernel.raw() as connection:
        for table in ("webhook_endpoints", "answers", "audit"):
            rows = await connection.fetch(f"SELECT t::text AS row FROM kernel.{table} t")
            assert rows
            for secret in (made["secret"], rotated[0]["secret"]):
                plain = secret.removeprefix("whsec_")
                assert not [row for row in rows if plain in row["row"] or secret.encode().hex() in row["row"]]


# Owners ---------------------------------------------------------------------------------------------------------------


async def test_an_unknown_type_is_refused_with_the_nearest(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    types = [one["type"] for one in (await who.get("/api/v1/webhooks/types")).json()["data"]]
    assert {"ai.job_succeeded", "ai.job_closed"} <= set(types) and "ai.attempt_ended" not in types
    wrong = {"url": receiver.url, "events": ["ai.job_closed", "ai.job_suceeded", "gpu.weather"]}
    answer = await who.post(ENDPOINTS, wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_event_type")
    near, far = answer.json()["errors"]
    assert near["pointer"] == "/events/1" and "did you mean ai.job_succeeded?" in near["message"]
    assert far["pointer"] == "/events/2" and "there are ai.batch_ended" in far["message"]
    assert (await who.get(ENDPOINTS)).json()["data"] == []


async def test_a_url_that_leads_inside_is_refused_and_leaves_nothing(
    stage: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.runtime.webhooks.endpoints, "_egress", EgressPolicy(WebhookSettings()))
    who = await stage.who()
    made = (await who.post(ENDPOINTS, {"url": "https://hooks.example/"})).json()
    for url in ("https://127.0.0.1/", "http://hooks.example/", "https://hooks.example:22/"):
        for answer in (
            await who.post(ENDPOINTS, {"url": url}),
            await who.client.put(f"{ENDPOINTS}/{made['id']}", json={"url": url}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "destination_refused"), answer.text
            assert answer.json()["errors"][0]["pointer"] == "/url"
    assert [one["url"] for one in (await who.get(ENDPOINTS)).json()["data"]] == ["https://hooks.example/"]


async def test_an_endpoint_becomes_what_is_wanted(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    made = await endpoint_of(who, receiver, events=["ai.job_closed"], description="first")
    path = f"{ENDPOINTS}/{made['id']}"
    for _ in range(2):
        changed = (await who.client.put(path, json={"url": "http://localhost/", "description": "second"})).json()
        assert (changed["description"], changed["events"], changed["url"]) == ("second", [], "http://localhost/")
    assert (await who.get(path)).json() == changed
    wrong = await who.client.put(path, json={"url": receiver.url, "events": ["ai.job"]})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "unknown_event_type")
    assert (await who.get(path)).json() == changed
    admin = await stage.admin()
    entries = (await admin.get("/api/v1/operations/audit", module="kernel", action="webhook.change")).json()["data"]
    assert len([entry for entry in entries if entry["object"] == made["id"]]) == 1


async def test_a_disabled_endpoint_is_told_nothing_until_it_is_enabled(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who(funds="10")
    made = await endpoint_of(who, receiver)
    path = f"{ENDPOINTS}/{made['id']}"
    for _ in range(2):
        told = (await who.post(f"{path}/disable")).json()
        assert (told["enabled"], told["disabled_reason"]) == (False, "owner")
    await paid_job(stage, who)
    assert (await who.post(f"{path}/test")).json()["code"] == "webhook_endpoint_disabled"
    await asyncio.sleep(0.2)
    assert (await who.get(DELIVERIES)).json()["data"] == [] and receiver.received == []
    for _ in range(2):
        told = (await who.post(f"{path}/enable")).json()
        assert (told["enabled"], told["disabled_reason"]) == (True, None)
    job = await paid_job(stage, who)
    (message,) = await receiver.until(1)
    assert message.told["data"]["job"] == job["id"]


async def test_a_deleted_endpoint_is_gone_with_its_log(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    made = await endpoint_of(who, receiver)
    await who.post(f"{ENDPOINTS}/{made['id']}/test")
    await receiver.until(1)
    assert (await who.client.delete(f"{ENDPOINTS}/{made['id']}")).status_code == 200
    assert (await who.client.delete(f"{ENDPOINTS}/{made['id']}")).status_code == 404
    assert (await who.get(DELIVERIES)).json()["data"] == []


async def test_an_account_has_so_many_endpoints_at_most_however_they_race(
    stage: TestApp, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.runtime.webhooks.endpoints, "_endpoints_max", 3)
    who = await stage.who()
    answers = await asyncio.gather(*(who.post(ENDPOINTS, {"url": receiver.url}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
    assert {one.json().get("code") for one in answers} == {None, "too_many_webhook_endpoints"}


async def test_what_belongs_to_others_is_as_if_it_did_not_exist(stage: TestApp, receiver: Receiver) -> None:
    owner, stranger, admin = await stage.who(), await stage.who("stranger"), await stage.admin()
    made = await endpoint_of(owner, receiver)
    delivery = (await owner.post(f"{ENDPOINTS}/{made['id']}/test")).json()
    path = f"{ENDPOINTS}/{made['id']}"
    refused = [
        await stranger.get(path),
        await stranger.client.put(path, json={"url": receiver.url}),
        await stranger.client.delete(path),
        *[await stranger.post(f"{path}/{verb}") for verb in ("enable", "disable", "test")],
        await stranger.post(f"{path}/rotate", {}),
        await stranger.get(f"{DELIVERIES}/{delivery['id']}"),
        await stranger.post(f"{DELIVERIES}/{delivery['id']}/replay"),
    ]
    assert {answer.status_code for answer in refused} == {404}
    for path in (ENDPOINTS, DELIVERIES, f"{DELIVERIES}?endpoint={made['id']}"):
        assert (await stranger.get(path)).json()["data"] == []
        assert len((await admin.get(path)).json()["data"]) == 1
    actions = [
        entry["action"] for entry in (await admin.get("/api/v1/operations/audit", module="kernel")).json()["data"]
    ]
    assert "webhook.create" in actions


async def test_only_keys_that_may_do_so(stage: TestApp, receiver: Receiver) -> None:
    owner = await stage.who()
    miner = await HandMiner.enrol(stage, owner)
    assert (await miner.client.get(ENDPOINTS)).status_code == 403
    reader = await stage.who("reader", scopes=("webhooks:read",))
    assert (await reader.get(ENDPOINTS)).status_code == 200
    assert (await reader.post(ENDPOINTS, {"url": receiver.url})).status_code == 403


async def test_pages_go_on_where_they_ended(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    made = await endpoint_of(who, receiver)
    for _ in range(5):
        await who.post(f"{ENDPOINTS}/{made['id']}/test")
    await receiver.until(5)
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2, "endpoint": made["id"]}
    while True:
        page = (await who.get(DELIVERIES, **query)).json()
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == sorted(seen, reverse=True) and len(set(seen)) == 5
    moved = await who.get(DELIVERIES, limit=2, status="dead", cursor=query["cursor"])
    assert (moved.status_code, moved.json()["code"]) == (422, "invalid_cursor")
    assert (await who.get(DELIVERIES, status="odd")).status_code == 422


async def test_a_message_is_sent_again_under_its_id(stage: TestApp, receiver: Receiver) -> None:
    who = await stage.who()
    made = await endpoint_of(who, receiver)
    delivery = (await who.post(f"{ENDPOINTS}/{made['id']}/test")).json()
    await ended(who, delivery["id"])
    for _ in range(2):
        answer = await who.post(f"{DELIVERIES}/{delivery['id']}/replay", once="again")
        assert answer.status_code == 200 and answer.json()["state"] == "pending"
    await receiver.until(2)
    found = await ended(who, delivery["id"])
    assert (found["state"], found["attempts"]) == ("delivered", 1)
    assert len({one.id for one in receiver.received}) == 1
    assert len({one.body for one in receiver.received}) == 1
    assert len(receiver.received) == 2


async def test_tests_that_wait_are_bounded(stage: TestApp, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.runtime.webhooks.worker, "_in_flight_max", 0)
    who = await stage.who()
    made = await endpoint_of(who, receiver)
    path = f"{ENDPOINTS}/{made['id']}/test"
    assert [(await who.post(path)).status_code for _ in range(TESTS_MAX + 1)] == [201] * TESTS_MAX + [429]

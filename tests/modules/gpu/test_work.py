"""Work on its way: polls, leases, results and money, and what happens to them when a miner drains or is removed."""

import asyncio
from typing import Any

import pytest

from aitbc.kernel.identity.principal import EVERYTHING, Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.service.heartbeats import KeepLease, SendHeartbeat
from aitbc.modules.gpu.service.work import AskForWork
from tests.modules.gpu.make import GPU, JOBS, Fleet


async def test_a_job_is_done_and_paid(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner)
    job = await fleet.submit(buyer, texts=2)
    lease = await rig.take()
    assert (lease["job"], lease["kind"], lease["input"]) == (job["id"], "embed", {"texts": ["text", "text"]})
    kept = await rig.heartbeat(
        slots_busy=1, leases=[{"attempt": lease["attempt"], "token": lease["token"], "progress": 0.5}]
    )
    (status,) = kept["leases"]
    assert (status["attempt"], status["status"]) == (lease["attempt"], "live")
    assert status["expires_at"] > lease["expires_at"]
    assert (await buyer.get(f"{JOBS}/{job['id']}")).json()["state"] == "running"
    working = (await owner.get(f"{GPU}/miners/{rig.id}/earnings")).json()
    nothing_yet: dict[str, Any] = {
        "miner": rig.id,
        "since": None,
        "jobs": 0,
        "earned": "0",
        "own_jobs": 0,
        "own": "0",
        "by_device": [],
    }
    expected = working.pop("estimate")
    assert working == nothing_yet | {"pending_jobs": 1, "pending": job["max_price"]}
    done = await rig.deliver(lease)
    assert done.status_code == 200, done.text
    outcome = done.json()
    assert (outcome["job"], outcome["state"], outcome["receipt"]) == (job["id"], "succeeded", "rcpt_" + job["id"][4:])
    assert (await rig.deliver(lease)).json() == outcome, "delivered again, it answers the same"
    earned = (await owner.get(f"{GPU}/miners/{rig.id}/earnings")).json()
    now_expected = earned.pop("estimate")
    assert now_expected["per_day"] is not None
    assert now_expected != expected
    assert " of 7 days for embed, " in now_expected["basis"]
    by_device = [{"uuid_digest": None, "jobs": 1, "earned": outcome["earned"]}]
    paid = {"jobs": 1, "earned": outcome["earned"], "pending_jobs": 0, "pending": "0", "by_device": by_device}
    assert earned == nothing_yet | paid
    estimate = f"{GPU}/miners/earnings-estimate"
    assert (await owner.get(f"{estimate}?kinds=sing&kinds=dance")).json() == {"per_day": None, "basis": "no data"}
    assert (await owner.get(f"{estimate}?kinds=embed&slots=2")).json()["per_day"] is not None
    assert (await owner.get(f"{estimate}?kinds=embed&slots=0")).status_code == 422
    later = (await owner.get(f"{GPU}/miners/{rig.id}/earnings", since="2100-01-01T00:00:00Z")).json()
    assert (later["jobs"], later["earned"]) == (0, "0")
    receipt = (await owner.get(f"/api/v1/trading/receipts/{outcome['receipt']}")).json()
    assert rig.id in str(receipt)


async def test_a_poll_waits_for_work_and_is_woken(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    buyer = await fleet.owner(funds="10")
    waiting = asyncio.create_task(rig.poll(wait_seconds=30))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    job = await fleet.submit(buyer)
    found = await asyncio.wait_for(waiting, 20)
    assert [lease["job"] for lease in found["leases"]] == [job["id"]]
    await rig.deliver(found["leases"][0])


async def test_a_poll_without_work_ends_in_its_time(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    assert await rig.poll(wait_seconds=0.1) == {"leases": [], "status": "online", "message": None}


async def test_one_miner_cannot_fill_the_house_with_its_waiting(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    body = {"slots": 1, "wait_seconds": 0.5}
    answers = await asyncio.gather(*(rig.call("POST", "/polls", body) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 8 + [429] * 12
    assert {answer.json()["code"] for answer in answers if answer.status_code == 429} == {"too_many_polls"}
    assert (await rig.poll())["status"] == "online"
    assert not fleet.gpu.work._polls


async def test_a_miner_never_has_more_jobs_than_slots(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    buyer = await fleet.owner(funds="10")
    jobs = {(await fleet.submit(buyer))["id"] for _ in range(5)}
    answers = await asyncio.gather(*(rig.poll(slots=64) for _ in range(4)))
    leases = [lease for answer in answers for lease in answer["leases"]]
    assert len(leases) == rig.slots
    assert {lease["attempt"] for lease in (await rig.call("GET", "/leases")).json()["leases"]} == {
        lease["attempt"] for lease in leases
    }
    while leases:
        for lease in leases:
            jobs.remove(lease["job"])
            assert (await rig.deliver(lease)).status_code == 200
        leases = (await rig.poll(slots=64))["leases"]
    assert not jobs


async def test_only_what_a_miner_offers_reaches_it(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    far = await fleet.rig(owner, region="far")
    near = await fleet.rig(owner, region="near")
    job = await fleet.submit(buyer, requirements={"region": "near"})
    assert (await far.poll())["leases"] == []
    answer = await far.call("PUT", f"/miners/{far.id}/capabilities", {"kinds": ["embed"], "region": "near"})
    assert (answer.status_code, answer.json()["region"], answer.json()["capabilities_version"]) == (200, "near", 2)
    lease = await far.take()
    assert lease["job"] == job["id"]
    assert (await near.poll())["leases"] == []
    await far.deliver(lease)


async def test_a_drained_miner_finishes_and_gets_nothing_new(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner)
    await fleet.submit(buyer)
    lease = await rig.take()
    drained = (await owner.post(f"{GPU}/miners/{rig.id}/drain", {"message": "new fans"})).json()
    assert (drained["status"], drained["status_reason"], drained["drain_message"]) == ("draining", *["new fans"] * 2)
    job = await fleet.submit(buyer)
    assert await rig.poll() == {"leases": [], "status": "draining", "message": "new fans"}
    kept = await rig.heartbeat(leases=[{"attempt": lease["attempt"], "token": lease["token"]}])
    assert (kept["status"], kept["message"], kept["leases"][0]["status"]) == ("draining", "new fans", "live")
    assert (await rig.deliver(lease)).json()["state"] == "succeeded"
    again = (await owner.post(f"{GPU}/miners/{rig.id}/drain", {"message": "new fans"})).json()
    assert again["changed_at"] == drained["changed_at"], "saying it twice changes nothing"
    resumed = (await owner.post(f"{GPU}/miners/{rig.id}/resume")).json()
    assert (resumed["status"], resumed["drain_message"]) == ("online", None)
    lease = await rig.take()
    assert lease["job"] == job["id"]
    await rig.deliver(lease)
    actions = await fleet.sql("SELECT action FROM gpu.audit WHERE object = $1 ORDER BY id", rig.id)
    assert [row["action"] for row in actions] == ["miner.enrol", "miner.drain", "miner.resume"]


async def test_a_poll_that_waited_while_its_miner_was_drained_gets_nothing(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig, other = await fleet.rig(owner), await fleet.rig(owner)
    waiting = asyncio.create_task(rig.poll(wait_seconds=30))
    await asyncio.sleep(0.1)
    await owner.post(f"{GPU}/miners/{rig.id}/drain", {})
    job = await fleet.submit(buyer)
    answer = await asyncio.wait_for(waiting, 20)
    assert answer == {"leases": [], "status": "draining", "message": "drained by its owner"}
    found = await other.poll(wait_seconds=30)
    assert [lease["job"] for lease in found["leases"]] == [job["id"]]
    assert (await other.deliver(found["leases"][0])).json()["state"] == "succeeded"
    history = (await buyer.get(f"{JOBS}/{job['id']}")).json()
    assert history["attempts"] <= 1, "what was given back does not count"


async def test_a_removed_miner_gives_back_its_work_and_its_key_ends(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner)
    jobs = [(await fleet.submit(buyer))["id"] for _ in range(2)]
    leases = (await rig.poll(slots=2))["leases"]
    assert len(leases) == 2
    removed = await owner.client.delete(f"{GPU}/miners/{rig.id}")
    assert (removed.status_code, removed.json()["status"]) == (200, "removed")
    for job in jobs:
        found = (await buyer.get(f"{JOBS}/{job}")).json()
        assert (found["state"], found["attempts"]) == ("queued", 0)
        assert [(one["state"], one["reason"]) for one in found["history"]] == [("released", "miner_removed")]
    assert (await rig.deliver(leases[0])).status_code == 401
    assert (await rig.call("POST", "/heartbeats", {"slots": 1, "slots_busy": 0})).status_code == 401
    again = await owner.client.delete(f"{GPU}/miners/{rig.id}")
    assert (again.status_code, again.json()) == (200, removed.json())
    for path in ("drain", "resume"):
        refused = await owner.post(f"{GPU}/miners/{rig.id}/{path}", {} if path == "drain" else None)
        assert (refused.status_code, refused.json()["code"]) == (409, "miner_removed")
    assert (await fleet.see(owner, rig))["status_reason"] == "its owner removed it"
    other = await fleet.rig(owner)
    for lease in (await other.poll(slots=2))["leases"]:
        assert (await other.deliver(lease)).json()["state"] == "succeeded"


async def test_a_removed_miner_whose_key_is_still_believed_for_a_moment_gets_nothing(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    principal = await fleet.stage.runtime.identity.authenticate(rig.secret)
    await owner.client.delete(f"{GPU}/miners/{rig.id}")
    lease = KeepLease(attempt=ids.new_id("att"), token=1)
    heard = await fleet.gpu.heartbeats.receive(principal, SendHeartbeat(slots=1, slots_busy=0, leases=(lease,)))
    assert (heard.status, heard.message) == ("removed", "its owner removed it")
    assert [one.status for one in heard.leases] == ["lost"]
    work = await fleet.gpu.work.poll(principal, AskForWork(slots=1, wait_seconds=0))
    assert (work.leases, work.status) == ((), "removed")
    assert (await fleet.see(owner, rig))["status"] == "removed"


async def test_a_failure_is_noted_with_its_fault_and_a_release_does_not_count(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig, other = await fleet.rig(owner), await fleet.rig(owner)
    job = await fleet.submit(buyer)
    lease = await rig.take()
    path = f"/leases/{lease['attempt']}"
    line = {"sequence": 1, "at": "2030-01-31T12:00:00Z", "text": "loading"}
    logged = await rig.call("POST", f"{path}/log", {"token": lease["token"], "lines": [line]})
    assert logged.json() == {"kept": 1}
    released = await rig.call("POST", f"{path}/release", {"token": lease["token"], "reason": "shutting_down"})
    assert (released.status_code, released.json()["state"]) == (200, "queued")
    found = await other.poll(wait_seconds=3)
    (lease,) = found["leases"]
    report = {"token": lease["token"], "fault": "miner", "reason": "out_of_memory", "message": "no room"}
    failed = await other.call("POST", f"/leases/{lease['attempt']}/failure", report)
    assert failed.status_code == 200
    seen = (await buyer.get(f"{JOBS}/{job['id']}")).json()
    assert seen["attempts"] == 1
    told = {(one["state"], one["fault"], one["reason"]) for one in seen["history"]}
    assert told == {("released", "none", "shutting_down"), ("failed", "miner", "out_of_memory")}
    await buyer.post(f"{JOBS}/{job['id']}/cancel")


async def test_a_lease_belongs_to_the_miner_that_took_it(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig, thief = await fleet.rig(owner), await fleet.rig(owner)
    await fleet.submit(buyer)
    lease = await rig.take()
    path = f"/leases/{lease['attempt']}"
    bodies: dict[str, Any] = {
        "failure": {"token": lease["token"], "fault": "miner", "reason": "spite", "message": ""},
        "release": {"token": lease["token"], "reason": "spite"},
        "log": {
            "token": lease["token"],
            "lines": [{"sequence": 1, "at": "2030-01-31T12:00:00Z", "text": "mine now"}],
        },
        "result": thief.result(lease),
    }
    for name, body in bodies.items():
        answer = await thief.call("POST", f"{path}/{name}", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "lease_lost"), name
        stale = body | {"token": lease["token"] + 1}
        assert (await rig.call("POST", f"{path}/{name}", stale)).status_code == 409, name
        assert (await rig.call("POST", f"/leases/att_rubbish/{name}", body)).status_code == 409, name
    kept = await thief.heartbeat(leases=[{"attempt": lease["attempt"], "token": lease["token"]}])
    assert [one["status"] for one in kept["leases"]] == ["lost"]
    forged = await rig.deliver(lease, signature=thief.result(lease)["signature"])
    assert (forged.status_code, forged.json()["code"]) == (422, "wrong_signature")
    assert (await rig.deliver(lease)).json()["state"] == "succeeded"


async def test_a_canceled_job_is_told_with_the_next_heartbeat(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    buyer = await fleet.owner(funds="10")
    job = await fleet.submit(buyer)
    lease = await rig.take()
    await buyer.post(f"{JOBS}/{job['id']}/cancel")
    kept = await rig.heartbeat(leases=[{"attempt": lease["attempt"], "token": lease["token"]}])
    assert [one["status"] for one in kept["leases"]] == ["canceled"]
    late = await rig.deliver(lease)
    assert (late.status_code, late.json()["code"]) == (409, "lease_lost")


async def test_a_zombie_is_fenced_after_its_job_went_to_another(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    zombie, other = await fleet.rig(owner, region="crypt"), await fleet.rig(owner, region="crypt")
    job = await fleet.submit(buyer, requirements={"region": "crypt"})
    lease = await zombie.take()
    await fleet.later(40)
    await fleet.stage.service("ai").sweep()
    assert (await fleet.see(owner, zombie))["status"] == "offline"
    found: list[Any] = []
    for _ in range(100):  # the job waits a little before it is tried again
        found = (await other.poll(wait_seconds=0.2))["leases"]
        if found:
            break
        await fleet.later(5)
    assert [one["job"] for one in found] == [job["id"]]
    assert found[0]["token"] > lease["token"]
    late = await zombie.deliver(lease)
    assert (late.status_code, late.json()["code"]) == (409, "lease_lost")
    assert (await other.deliver(found[0])).json()["state"] == "succeeded"
    assert (await owner.get(f"{GPU}/miners/{zombie.id}/earnings")).json()["earned"] == "0"


async def test_a_key_that_speaks_for_no_miner_does_no_work(fleet: Fleet) -> None:
    admin = await fleet.stage.admin()
    for method, path, body in (
        ("POST", "/heartbeats", {"slots": 1, "slots_busy": 0}),
        ("POST", "/polls", {"slots": 1, "wait_seconds": 0}),
        ("GET", "/leases", None),
    ):
        content: dict[str, Any] = {} if body is None else {"json": body}
        answer = await admin.client.request(method, GPU + path, **content)
        assert (answer.status_code, answer.json()["code"]) == (404, "miner_not_found"), path
    odd = Principal(ids.new_id("acct"), ids.new_id("key"), "miner", frozenset({EVERYTHING}), "mnr_rubbish")
    with pytest.raises(MinerNotFound):
        await fleet.gpu.work.leases(odd)


async def test_a_miner_of_somebody_else_looks_like_none(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    stranger = await fleet.owner()
    admin = await fleet.stage.admin()
    for name in (rig.id, ids.new_id("mnr"), "mnr_rubbish", ids.new_id("job")):
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/reputation", None),
            ("GET", "/earnings", None),
            ("POST", "/drain", {"message": "mine"}),
            ("POST", "/resume", None),
            ("DELETE", "", None),
        ):
            content: dict[str, Any] = {} if body is None else {"json": body}
            answer = await stranger.client.request(method, f"{GPU}/miners/{name}{path}", **content)
            assert (answer.status_code, answer.json()["code"]) == (404, "miner_not_found"), (method, path)
    assert (await stranger.get(f"{GPU}/miners")).json()["data"] == []
    assert (await admin.get(f"{GPU}/miners/{rig.id}")).json()["id"] == rig.id
    other = await fleet.rig(await fleet.owner())
    answer = await other.call("PUT", f"/miners/{rig.id}/capabilities", {"kinds": ["chat"]})
    assert (answer.status_code, answer.json()["code"]) == (404, "miner_not_found")


async def test_miners_are_listed_from_the_newest_on_page_by_page(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rigs = [await fleet.rig(owner, heartbeat=number > 1) for number in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await owner.get(f"{GPU}/miners", **query)).json()
        seen += [miner["id"] for miner in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert seen == [rig.id for rig in reversed(rigs)]
    online = (await owner.get(f"{GPU}/miners", status="online")).json()["data"]
    assert {miner["id"] for miner in online} == {rig.id for rig in rigs[2:]}
    first = (await owner.get(f"{GPU}/miners", limit=2)).json()["next_cursor"]
    assert (await owner.get(f"{GPU}/miners", status="online", cursor=first)).json()["code"] == "invalid_cursor"
    assert (await owner.get(f"{GPU}/miners", status="asleep")).status_code == 422


async def test_a_miner_that_speaks_a_later_protocol_is_told_so(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    body = {"slots": 1, "slots_busy": 0}
    assert (await rig.call("POST", "/heartbeats", body, **{"Aitbc-Miner-Protocol": "1"})).status_code == 200
    later = await rig.call("POST", "/heartbeats", body | {"mood": "good"}, **{"Aitbc-Miner-Protocol": "2"})
    assert (later.status_code, later.json()["code"]) == (426, "miner_protocol_unsupported")
    assert (later.json()["details"], later.headers["upgrade"]) == ({"supported": ["1"]}, "aitbc-miner/1")


async def test_the_operator_sees_the_fleet_in_the_metrics(fleet: Fleet) -> None:
    await fleet.rig(await fleet.owner())
    admin = await fleet.stage.admin()
    async with asyncio.timeout(30):  # what is measured is kept for a moment
        while 'aitbc_miners{state="online",trust="newcomer"}' not in (  # noqa: ASYNC110 - over HTTP
            figures := (await admin.get("/metrics")).text
        ):
            await asyncio.sleep(0.2)
    assert "aitbc_miner_heartbeat_age_seconds " in figures


async def test_a_miner_that_watches_its_lease_is_told_at_once_that_it_is_over(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    buyer = await fleet.owner(funds="10")
    job = await fleet.submit(buyer)
    lease = await rig.take()
    watching = asyncio.create_task(rig.watch(lease, wait_seconds=30))
    await asyncio.sleep(0.3)
    assert not watching.done()
    await rig.heartbeat(leases=[{"attempt": lease["attempt"], "token": lease["token"], "progress": 0.5}])
    await asyncio.sleep(0.1)
    assert not watching.done(), "a sign of work is no end"
    await buyer.post(f"{JOBS}/{job['id']}/cancel")
    assert await asyncio.wait_for(watching, 20) == [lease["attempt"]]
    assert await asyncio.wait_for(rig.watch(lease, wait_seconds=30), 20) == [lease["attempt"]], "it is over already"


async def test_a_watch_ends_in_its_time_and_with_the_work(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    await fleet.submit(await fleet.owner(funds="10"))
    lease = await rig.take()
    assert await asyncio.wait_for(rig.watch(lease, wait_seconds=0.2), 20) == []
    watching = asyncio.create_task(rig.watch(lease, wait_seconds=30))
    await asyncio.sleep(0.1)
    assert (await rig.deliver(lease)).status_code == 200
    assert await asyncio.wait_for(watching, 20) == [lease["attempt"]]


async def test_what_another_process_ended_is_seen_within_a_second(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    job = await fleet.submit(await fleet.owner(funds="10"))
    lease = await rig.take()
    watching = asyncio.create_task(rig.watch(lease, wait_seconds=30))
    await asyncio.sleep(0.1)
    await fleet.sql(
        "UPDATE ai.attempts SET ended = 'canceled', ended_at = now() WHERE job = $1 RETURNING id",
        ids.decode("job", job["id"]),
    )
    assert await asyncio.wait_for(watching, 20) == [lease["attempt"]]


async def test_the_lease_of_another_is_over_for_whoever_watches_it(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig, stranger = await fleet.rig(owner), await fleet.rig(owner)
    await fleet.submit(await fleet.owner(funds="10"))
    lease = await rig.take()
    assert await asyncio.wait_for(stranger.watch(lease, wait_seconds=30), 20) == [lease["attempt"]]
    assert (await rig.deliver(lease)).status_code == 200
    wrong = await stranger.call("POST", "/leases/watch", {"leases": [], "wait_seconds": 1})
    assert wrong.status_code == 422, wrong.text

"""Two servers over one PostgreSQL: what one of them was told, the other one knows."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.app import Caller
from tests.eventually import eventually
from tests.journeys.hand_miner import HandMiner
from tests.journeys.shapes import OVER_NATS, REPLICAS, TestInstallation, installed
from tests.journeys.test_governance import settings
from tests.journeys.test_paid_job import submit
from tests.nats_server import NatsServer
from tests.scale import scaled

FEW = REPLICAS + (OVER_NATS if NatsServer.is_installed() else "")
REVOKED_SECONDS = 30.0
"""What a replica remembers of a key is forgotten within a second; the rest is what a starved machine takes."""
POLL_SECONDS = 20
GRANTS = scaled(3, 20)


@pytest.fixture(scope="module", params=scaled((FEW,), (REPLICAS, REPLICAS + OVER_NATS)))
def replicas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target]
) -> Iterator[TestInstallation]:
    """The two of them."""
    folder = tmp_path_factory.mktemp("replicas")
    with installed(request.param, folder, new_database, settings(folder)) as installation:
        yield installation


def at(installation: TestInstallation, number: int, who: Caller) -> Caller:
    """The same person, at this server only."""
    return Caller(who.principal, who.secret, TestInstallation([installation.servers[number]]).client(who.secret))


async def test_a_key_revoked_at_one_is_soon_refused_by_the_other(replicas: TestInstallation) -> None:
    for revoking, reading in ((0, 1), (1, 0)):
        alice = await replicas.who("alice")
        there = at(replicas, reading, alice)
        for _ in range(5):  # so that the key is remembered there
            assert (await there.get("/api/v1/ai/jobs")).status_code == 200
        admin = at(replicas, revoking, await replicas.admin())
        revoked = await admin.post(f"/api/v1/identity/keys/{alice.principal.key}/revoke")
        assert revoked.status_code == 200, revoked.text
        async with asyncio.timeout(REVOKED_SECONDS):
            while (await there.get("/api/v1/ai/jobs")).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_a_miner_that_waits_at_one_gets_what_is_submitted_at_the_other(replicas: TestInstallation) -> None:
    alice, owner = await replicas.who("alice", funds="1"), await replicas.who("owner")
    for waiting, submitting in ((0, 1), (1, 0)):
        miner = await HandMiner.enrol(TestInstallation([replicas.servers[waiting]]), owner)
        poll = asyncio.create_task(miner.poll(wait=POLL_SECONDS))
        await asyncio.sleep(0.5)
        started = time.monotonic()
        job = await submit(at(replicas, submitting, alice))
        [lease] = await poll
        assert lease["job"] == job["id"]
        assert time.monotonic() - started < POLL_SECONDS - 2  # it was woken: one that ends by itself takes all its time
        assert (await miner.deliver(lease)).json()["state"] == "succeeded"
        told = await at(replicas, submitting, alice).get(f"/api/v1/ai/jobs/{job['id']}")
        assert told.json()["state"] == "succeeded"


async def test_one_sealer_makes_one_chain_whoever_is_asked(replicas: TestInstallation) -> None:
    alice, owner = await replicas.who("alice", funds="1"), await replicas.who("owner")
    miner = await HandMiner.enrol(replicas, owner)
    for number in range(4):
        await submit(at(replicas, number % 2, alice))
        [lease] = await miner.poll(wait=5)
        assert (await miner.deliver(lease)).status_code == 200
    admin = await replicas.admin()
    for number in (0, 1):
        report = (await at(replicas, number, admin).post("/api/v1/trading/ledger/verify")).json()
        assert report["ok"], report


async def test_an_account_is_created_once_over_both_and_each_request_is_answered_as_the_first(
    replicas: TestInstallation,
) -> None:
    admin = await replicas.admin()
    path = "/api/v1/identity/accounts"
    for round_ in range(5):
        name = {"name": f"twice {time.time_ns()} {round_}"}
        same = [at(replicas, number, admin).post(path, name, once=f"same {name}") for number in (0, 1)]
        answers = await asyncio.gather(*same)
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        other = {"name": f"other {time.time_ns()} {round_}"}
        answers = await asyncio.gather(*(at(replicas, number, admin).post(path, other) for number in (0, 1)))
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        assert [answer.json()["code"] for answer in answers if answer.status_code == 409] == ["account_exists"]


async def test_a_booking_repeated_at_the_other_server_is_answered_as_the_first(replicas: TestInstallation) -> None:
    owner, buyer = await replicas.who("owner"), await replicas.who("buyer", funds="100")
    wish = {"model": "RTX 4090", "memory_gb": 24, "price_per_hour": "0.1"}
    made = []
    for _ in range(4):
        rig = await HandMiner.enrol(replicas, owner, gpus=["NVIDIA GeForce RTX 4090"])
        await rig.beat()
        listed = await owner.post("/api/v1/gpu/listings", wish | {"miner": rig.id})
        assert listed.status_code == 201, listed.text
        body = {"gpu": listed.json()["id"], "duration_seconds": 3600, "max_price": "1"}
        made.append(body)
    for number, body in enumerate(made):
        calls = [
            at(replicas, server, buyer).post("/api/v1/gpu/bookings", body, once=f"b {number}") for server in (0, 1)
        ]
        answers = await asyncio.gather(*calls)
        assert [answer.status_code for answer in answers] == [201, 201], [answer.text for answer in answers]
        assert answers[0].json() == answers[1].json()


async def test_proposals_that_both_servers_execute_take_effect_once(replicas: TestInstallation) -> None:
    admin, payee = await replicas.admin(), await replicas.who("payee")
    servers = [at(replicas, number, admin) for number in (0, 1)]
    deposit = {"account": admin.principal.account, "amount": "1000"}
    assert (await admin.post("/api/v1/trading/deposits", deposit)).status_code == 201
    assert (await admin.post("/api/v1/governance/stake/lock", {"amount": "200"})).status_code == 201
    assert (await admin.post("/api/v1/governance/treasury/gifts", {"amount": "100"})).status_code == 201
    actions = [
        {"do": "set_budget", "line": "grants", "limit": str(GRANTS)},
        {"do": "pay", "to": payee.principal.account, "line": "grants", "amount": "1"},
    ]
    paths = []
    for number in range(GRANTS):
        body = {"title": f"Grant {number}", "class": "funding", "actions": actions}
        made = await admin.post("/api/v1/governance/proposals", body)
        assert made.status_code == 201, made.text
        paths.append(f"/api/v1/governance/proposals/{made.json()['id']}")

    async def voted(path: str) -> bool:
        return (await admin.client.put(f"{path}/vote", json={"choice": "for"})).status_code == 200

    async def executed_by_both(path: str) -> bool:
        """Ask both at once, again and again; the platform's own task does the same meanwhile."""
        answers = await asyncio.gather(*(server.post(f"{path}/execute") for server in servers))
        assert {answer.status_code for answer in answers} <= {200, 409}, [answer.text for answer in answers]
        return bool((await admin.get(path)).json()["state"] == "executed")

    await asyncio.gather(*(eventually(lambda path=path: voted(path)) for path in paths))  # type: ignore[misc]
    await asyncio.gather(*(eventually(lambda path=path: executed_by_both(path)) for path in paths))  # type: ignore[misc]

    async def is_paid() -> bool:
        return bool((await admin.get("/api/v1/governance/treasury")).json()["promised"] == "0")

    await eventually(is_paid)
    treasury = (await admin.get("/api/v1/governance/treasury")).json()
    lines = [(line["paid"], line["left"]) for line in treasury["lines"] if line["line"] == "grants"]
    assert lines == [(str(GRANTS), "0")]
    assert (await payee.get(f"/api/v1/trading/accounts/{payee.principal.account}")).json()["available"] == str(GRANTS)
    trail = (await admin.get("/api/v1/operations/audit", limit=1000)).json()["data"]
    effects = [one["object"] for one in trail if one["action"] == "proposal.executed"]
    assert sorted(effects) == sorted(path.rpartition("/")[2] for path in paths)
    assert (await admin.post("/api/v1/trading/ledger/verify")).json()["ok"] is True

"""Miners of the older dialect at the service: their keys, their leases and the clocks of both, races, and a lost secret."""

import asyncio
from typing import Any

import pytest

from aitbc.kernel.crypto.sealing import Sealer
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError, Malformed
from aitbc.modules.ai.api import JobNotFound, Lease, LeaseLost
from aitbc.modules.gpu.api import Inventory, MinerNotFound
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.service.enrolment import TooManyMiners
from aitbc.modules.gpu.service.legacy_keys import LegacyKeyLost
from aitbc.modules.gpu.service.legacy_miners import RegisterLegacyMiner
from aitbc.modules.gpu.service.legacy_work import LegacyHeartbeat, OutputNotTaken
from tests.modules.gpu.make import Fleet

OUTPUT = {"model": "tiny", "dimensions": 2, "vectors": [[0.5, 0.25]]}


def command(name: str = "m1") -> RegisterLegacyMiner:
    """A registration of a miner that embeds."""
    offer = Offer(kinds=("embed",))
    return RegisterLegacyMiner(legacy_id=name, offer=offer, slots=1, inventory=Inventory(), price_units=None)


async def taken(fleet: Fleet, who: Principal, name: str = "m1") -> Lease:
    """The job that waits."""
    lease = await fleet.gpu.legacy_work.poll(who, name, 0)
    assert lease is not None
    return lease


@pytest.fixture(autouse=True)
async def nothing_waits(fleet: Fleet) -> None:
    """What other tests left in the queue of this database is none of ours."""
    await fleet.sql("UPDATE ai.jobs SET due_at = due_at + interval '1 year' WHERE state = 'queued'")


async def test_a_name_is_one_miner_of_its_account_however_often_it_registers(fleet: Fleet) -> None:
    first, second = (await fleet.owner()).principal, (await fleet.owner()).principal
    twins = await asyncio.gather(*(fleet.gpu.legacy_miners.register(first, command()) for _ in range(3)))
    assert len({one.miner for one in twins}) == 1
    other = await fleet.gpu.legacy_miners.register(second, command())
    assert other.miner != twins[0].miner
    older = await fleet.gpu.legacy_miners.find(first, "m1")
    assert (older.miner.id, older.miner.status, older.legacy_id) == (twins[0].miner, "online", "m1")
    assert (await fleet.gpu.legacy_miners.find(first, twins[0].miner)).legacy_id == "m1"
    with pytest.raises(MinerNotFound):
        await fleet.gpu.legacy_miners.find(second, twins[0].miner)


async def test_the_key_is_stored_sealed_and_shown_nowhere(fleet: Fleet) -> None:
    who = (await fleet.owner()).principal
    await fleet.gpu.legacy_miners.register(who, command())
    kept, _ = await fleet.gpu.legacy_keys.acting_miner(who, "m1")
    (row,) = await fleet.sql(
        "SELECT sealed_key FROM gpu.older_miners WHERE miner = $1", ids.decode("mnr", str(kept.miner))
    )
    seed = fleet.gpu.legacy_keys._seal.unseal(row["sealed_key"])
    assert len(seed) == 32
    assert seed not in row["sealed_key"]
    assert (
        fleet.gpu.legacy_keys.unsealed_key(kept).public
        == (await fleet.gpu.legacy_miners.find(who, "m1")).miner.public_key
    )
    stored = " ".join(str(dict(one)) for one in await fleet.sql("SELECT * FROM gpu.audit"))
    assert seed.hex() not in stored


async def test_where_the_secret_changed_a_result_is_refused_and_registering_makes_a_new_miner(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer, who = await fleet.owner(funds="10"), (await fleet.owner()).principal
    before = await fleet.gpu.legacy_miners.register(who, command())
    job = await fleet.submit(buyer)
    lease = await taken(fleet, who)
    row = await fleet.gpu.legacy_leases.find(who, None, lease.job)
    monkeypatch.setattr(fleet.gpu.legacy_keys, "_seal", Sealer(b"another secret", "keys of older miners"))
    with pytest.raises(LegacyKeyLost):
        await fleet.gpu.legacy_work.deliver(who, row, OUTPUT, {})
    after = await fleet.gpu.legacy_miners.register(who, command())
    assert after.miner != before.miner
    assert (await fleet.gpu.miner(before.miner)).status == "removed"
    assert (await taken(fleet, who)).job == job["id"]


async def test_of_two_results_at_once_one_is_taken(fleet: Fleet) -> None:
    buyer, who = await fleet.owner(funds="10"), (await fleet.owner()).principal
    await fleet.gpu.legacy_miners.register(who, command())
    await fleet.submit(buyer)
    row = await fleet.gpu.legacy_leases.find(who, "m1", (await taken(fleet, who)).job)
    other = {**OUTPUT, "vectors": [[1.0, 1.0]]}
    results = (OUTPUT, OUTPUT, other)
    answers = await asyncio.gather(
        *(fleet.gpu.legacy_work.deliver(who, row, output, {}) for output in results), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["LeaseLost", "LeaseLost", "Outcome"]
    assert (await fleet.gpu.earned.of(who, row.miner, None, None)).jobs == 1


async def test_a_result_of_the_wrong_shape_ends_the_attempt(fleet: Fleet) -> None:
    buyer, who = await fleet.owner(funds="10"), (await fleet.owner()).principal
    await fleet.gpu.legacy_miners.register(who, command())
    await fleet.submit(buyer)
    row = await fleet.gpu.legacy_leases.find(who, "m1", (await taken(fleet, who)).job)
    with pytest.raises(OutputNotTaken):
        await fleet.gpu.legacy_work.deliver(who, row, {"model": "tiny", "dimensions": 2, "vectors": []}, {})
    with pytest.raises(LeaseLost):
        await fleet.gpu.legacy_work.deliver(who, await fleet.gpu.legacy_leases.find(who, "m1", row.job), OUTPUT, {})


async def test_nobody_delivers_for_another_account_or_another_miner(fleet: Fleet) -> None:
    buyer, who, thief = await fleet.owner(funds="10"), (await fleet.owner()).principal, (await fleet.owner()).principal
    for one in (who, thief):
        await fleet.gpu.legacy_miners.register(one, command())
    await fleet.gpu.legacy_miners.register(who, command("m2"))
    await fleet.submit(buyer)
    lease = await taken(fleet, who)
    row = await fleet.gpu.legacy_leases.find(who, "m1", lease.job)
    for somebody, name in ((thief, "m1"), (thief, None), (who, "m2"), (who, "m3")):
        with pytest.raises(JobNotFound):
            await fleet.gpu.legacy_leases.find(somebody, name, lease.job)
    with pytest.raises(MinerNotFound):
        await fleet.gpu.legacy_work.deliver(thief, row, OUTPUT, {})
    with pytest.raises(AppError):
        await fleet.gpu.legacy_work.fail(thief, row, "x", "")
    with pytest.raises(Malformed):
        await fleet.gpu.legacy_work.poll(who, None, 0)


async def test_a_lease_outlives_a_silence_while_patience_lasts_and_no_longer(fleet: Fleet) -> None:
    buyer, who = await fleet.owner(funds="10"), (await fleet.owner()).principal
    await fleet.gpu.legacy_miners.register(who, command())
    job = await fleet.submit(buyer, clocks={"run_seconds": 3600})
    await taken(fleet, who)
    ai = fleet.stage.service("ai")
    for _ in range(10):  # 250 seconds
        await fleet.later(25)
        await fleet.gpu.keep_legacy_leases()
        await ai.sweeper.end_lost_leases()
    assert (await buyer.get(f"/api/v1/ai/jobs/{job['id']}")).json()["state"] == "running"
    assert (await fleet.gpu.legacy_miners.find(who, "m1")).miner.status == "offline"
    for _ in range(5):
        await fleet.later(25)
        await fleet.gpu.keep_legacy_leases()
        await ai.sweeper.end_lost_leases()
    row = await fleet.gpu.legacy_leases.find(who, "m1", job["id"])
    assert row.ended_at is not None
    with pytest.raises(LeaseLost):
        await fleet.gpu.legacy_work.deliver(who, row, OUTPUT, {})


async def test_heartbeats_keep_a_lease_for_as_long_as_it_may_run(fleet: Fleet) -> None:
    buyer, who = await fleet.owner(funds="10"), (await fleet.owner()).principal
    await fleet.gpu.legacy_miners.register(who, command())
    job = await fleet.submit(buyer, clocks={"run_seconds": 3600})
    lease = await taken(fleet, who)
    ai = fleet.stage.service("ai")
    for _ in range(20):  # 500 seconds
        await fleet.later(25)
        await fleet.gpu.legacy_work.heartbeat(who, "m1", LegacyHeartbeat(inflight=1))
        await ai.sweeper.end_lost_leases()
    row = await fleet.gpu.legacy_leases.find(who, "m1", lease.job)
    outcome = await fleet.gpu.legacy_work.deliver(who, row, OUTPUT, {})
    assert (outcome.job, outcome.state) == (job["id"], "succeeded")


async def test_a_canceled_job_is_noted_at_the_next_heartbeat(fleet: Fleet) -> None:
    buyer, who = await fleet.owner(funds="10"), (await fleet.owner()).principal
    await fleet.gpu.legacy_miners.register(who, command())
    job = await fleet.submit(buyer)
    await taken(fleet, who)
    await buyer.post(f"/api/v1/ai/jobs/{job['id']}/cancel")
    await fleet.gpu.legacy_work.heartbeat(who, "m1", LegacyHeartbeat(inflight=1))
    row = await fleet.gpu.legacy_leases.find(who, "m1", job["id"])
    assert row.ended_at is not None
    with pytest.raises(LeaseLost):
        await fleet.gpu.legacy_work.deliver(who, row, OUTPUT, {})


async def test_an_account_has_only_so_many_miners(few_allowed: Fleet) -> None:
    fleet = few_allowed
    who = (await fleet.owner()).principal
    for name in ("a", "b"):
        await fleet.gpu.legacy_miners.register(who, command(name))
    for name in ("c", "d"):
        with pytest.raises(TooManyMiners):
            await fleet.gpu.legacy_miners.register(who, command(name))
    with pytest.raises(TooManyMiners):  # and the names that came to nothing are bounded too
        await fleet.gpu.legacy_miners.register(who, command("e"))
    count = await fleet.sql(
        "SELECT count(*) AS rows FROM gpu.older_miners WHERE account = $1", ids.decode("acct", who.account)
    )
    assert count[0]["rows"] == 4
    await fleet.gpu.legacy_miners.register(who, command("a"))


async def test_a_page_of_miners_in_some_statuses_is_cut_by_the_database(fleet: Fleet) -> None:
    who = (await fleet.owner()).principal
    names = [f"m{number}" for number in range(6)]
    for name in names:
        await fleet.gpu.legacy_miners.register(who, command(name))
    found = {name: (await fleet.gpu.legacy_miners.find(who, name)).miner.id for name in names}
    for name in ("m1", "m3", "m4"):
        await fleet.gpu.miners.drain(who, found[name], "dust")
    await fleet.gpu.miners.remove(who, found["m2"])

    async def page(**wish: Any) -> list[str]:
        return [one.legacy_id for one in await fleet.gpu.legacy_miners.page(who, wish.pop("limit", 9), **wish)]

    assert await page() == ["m5", "m4", "m3", "m1", "m0"]
    assert await page(limit=2, offset=1) == ["m4", "m3"]
    assert await page(statuses={"draining"}) == ["m4", "m3", "m1"]
    assert await page(statuses={"draining"}, limit=1, offset=1) == ["m3"]
    assert await page(statuses={"removed"}) == await page(statuses=set()) == []
    assert [await fleet.gpu.legacy_miners.is_known(who, name) for name in ("m1", "m2", "m9")] == [True, False, False]

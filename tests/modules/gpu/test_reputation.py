"""Reputation: a pure function of stored events, the same however and whenever it is worked out."""

import asyncio
import random
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.database.retry import retry
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.models.reputation import (
    HALF_LIFE_DAYS,
    NEWCOMER_BELOW,
    PRIOR,
    UNKNOWN,
    WINDOW_DAYS,
    Tally,
    score,
    tally,
    weight,
)
from tests.modules.gpu.make import GPU, Fleet

START = datetime(2026, 3, 1, tzinfo=UTC)
MOMENTS = st.builds(
    lambda hours, offset: (START + timedelta(hours=hours)).astimezone(timezone(timedelta(hours=offset))),
    st.integers(0, 24 * 90),
    st.integers(-12, 12),
)
OUTCOMES = st.sampled_from(
    [
        ("succeeded", "none", "completed"),
        ("succeeded", "none", "overcounted"),
        ("succeeded", "none", "too_fast"),
        ("failed", "miner", "broken"),
        ("failed", "requester", "overcounted"),
        ("failed", "platform", "broken"),
        ("failed", "unknown", "broken"),
        ("lost", "miner", "lease_expired"),
        ("released", "none", "left"),
        ("canceled", "none", "canceled_by_owner"),
    ]
)
EVENTS = st.lists(st.builds(lambda at, how: (at, *how), MOMENTS, OUTCOMES), max_size=60)


@given(EVENTS, st.randoms(use_true_random=False))
def test_neither_the_order_of_events_nor_the_zone_of_their_times_matters(
    events: list[tuple[datetime, str, str, str]], chance: random.Random
) -> None:
    shuffled = [(at.astimezone(UTC), outcome, fault, reason) for at, outcome, fault, reason in events]
    chance.shuffle(shuffled)
    assert score(tally(shuffled)) == score(tally(events))


@given(EVENTS, EVENTS)
def test_what_is_kept_day_by_day_amounts_to_the_same_as_the_whole(
    early: list[tuple[datetime, str, str, str]], late: list[tuple[datetime, str, str, str]]
) -> None:
    days = dict(tally(early))
    for day, one in tally(late).items():
        before = days.get(day, Tally())
        days[day] = Tally(before.good + one.good, before.bad + one.bad)
    assert score(days) == score(tally([*early, *late]))


@given(EVENTS)
def test_it_lies_between_nought_and_one_and_only_the_miners_doing_moves_it(
    events: list[tuple[datetime, str, str, str]],
) -> None:
    found = score(tally(events))
    assert 0 < found.value < 1
    telling = [one for one in events if (one[1] == "succeeded" and one[3] != "too_fast") or one[2] == "miner"]
    assert score(tally(telling)) == found
    if not telling:
        assert found == UNKNOWN
    newest = max((at for at, *_ in telling), default=START)
    assert score(tally([*events, (newest, "succeeded", "none", "completed")])).value > found.value
    assert score(tally([*events, (newest, "failed", "miner", "broken")])).value < found.value
    assert score(tally([*events, (newest, "succeeded", "none", "overcounted")])).value < found.value


def test_an_event_weighs_half_after_its_half_life_and_nothing_after_the_window() -> None:
    newest = date(2026, 3, 31)
    assert weight(newest, newest) == 1
    assert weight(newest - timedelta(days=HALF_LIFE_DAYS), newest) == 0.5
    assert weight(newest - timedelta(days=WINDOW_DAYS), newest) == 2**-10
    assert weight(newest - timedelta(days=WINDOW_DAYS + 1), newest) == 0
    old, new = Tally(bad=5), Tally(good=5)
    assert score({newest - timedelta(days=14): old, newest: new}).value > PRIOR
    assert score({newest - timedelta(days=14): new, newest: old}).value < PRIOR


def test_a_newcomer_is_one_of_whom_few_events_count() -> None:
    day = date(2026, 3, 31)
    assert score({day: Tally(good=NEWCOMER_BELOW - 1)}).newcomer
    assert not score({day: Tally(good=NEWCOMER_BELOW - 1, bad=1)}).newcomer


ATTEMPTS_OF = "SELECT is_own_work FROM gpu.reputation_events WHERE miner = $1"


def ended(
    miner: str, at: datetime, outcome: str, fault: str, reason: str = "", attempt: str | None = None
) -> AttemptEnded:
    """What ai tells of an attempt."""
    return AttemptEnded(
        attempt=attempt or ids.new_id("att"),
        job=ids.new_id("job"),
        job_kind="embed",
        miner=miner,
        outcome=outcome,
        fault=fault,
        reason=reason,
        started_at=at - timedelta(seconds=1),
        ended_at=at,
    )


async def hear(fleet: Fleet, *events: AttemptEnded) -> None:
    """As the relay brings them: again, where others were heard at the same time."""

    async def once() -> None:
        async with fleet.gpu.db.raw_transaction() as connection:
            await fleet.gpu.on_attempts_ended(connection, events)

    await retry(once)


async def stored(fleet: Fleet, miner: str) -> tuple[float, int, int]:
    """What matching is given."""
    (row,) = await fleet.sql("SELECT score, good, bad FROM gpu.reputations WHERE miner = $1", ids.decode("mnr", miner))
    return row["score"], row["good"], row["bad"]


async def test_recounting_the_events_gives_exactly_what_was_kept_up(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    chance = random.Random(7)
    pool = [("succeeded", "none"), ("failed", "miner"), ("lost", "miner"), ("failed", "platform"), ("released", "none")]
    pool += [("succeeded", "none", "overcounted"), ("succeeded", "none", "too_fast")]  # type: ignore[list-item]
    events = [
        ended(rig.id, START + timedelta(hours=chance.randrange(24 * 80)), *chance.choice(pool)) for _ in range(300)
    ]
    for start in range(0, 300, 37):
        await hear(fleet, *events[start : start + 37])
        await hear(fleet, *events[: start + 5])  # the same facts, late and again
    expected = score(tally((event.ended_at, event.outcome, event.fault, event.reason) for event in events))
    assert await stored(fleet, rig.id) == (expected.value, expected.good, expected.bad)
    told = (await owner.get(f"{GPU}/miners/{rig.id}/reputation")).json()
    assert told["value"] == expected.value
    assert told["newcomer"] is False
    assert (await fleet.see(owner, rig))["reputation"] == expected.value
    assert (told["half_life_days"], told["window_days"], told["newcomer_below"]) == (7, 70, 10)
    days = told["days"]
    assert [day["day"] for day in days] == sorted((day["day"] for day in days), reverse=True)
    good = sum(day["good"] * day["weight"] for day in days)
    bad = sum(day["bad"] * day["weight"] for day in days)
    prior = told["prior"] * told["prior_weight"]
    assert told["value"] == pytest.approx((prior + good) / (told["prior_weight"] + good + bad), abs=1e-12)


async def test_hearers_at_work_at_the_same_time_lose_nothing(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rigs = [await fleet.rig(owner) for _ in range(3)]
    events = [
        ended(rigs[number % 3].id, START + timedelta(days=number % 7), "succeeded", "none") for number in range(90)
    ]
    await asyncio.gather(*(hear(fleet, *events[start::3][:10], *events[:30]) for start in range(3)))
    await asyncio.gather(*(hear(fleet, *events[start : start + 30]) for start in range(0, 90, 15)))
    for rig in rigs:
        mine = [event for event in events if event.miner == rig.id]
        expected = score(tally((event.ended_at, event.outcome, event.fault, event.reason) for event in mine))
        assert await stored(fleet, rig.id) == (expected.value, expected.good, expected.bad)


async def test_work_that_was_paid_for_raises_the_reputation_of_who_did_it(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner)
    await fleet.submit(buyer)
    await rig.deliver(await rig.take())
    await fleet.later(6)  # the event goes with the one that is the payment's safety net
    for _ in range(600):
        if (await fleet.see(owner, rig))["reputation"] > PRIOR:
            break
        await asyncio.sleep(0.05)
    told = (await owner.get(f"{GPU}/miners/{rig.id}/reputation")).json()
    assert [(day["good"], day["bad"], day["weight"]) for day in told["days"]] == [(1, 0, 1.0)]
    assert told["value"] == (await fleet.see(owner, rig))["reputation"] == 0.6


async def test_a_miner_that_reports_100000_tokens_for_five_pieces_is_paid_for_what_was_counted_and_thought_less_of(
    fleet: Fleet,
) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner, kinds=["chat"])
    ask = {"messages": [{"role": "user", "content": "Count to five."}], "max_tokens": 100_000}
    job = (await fleet.submit(buyer, kind="chat", input=ask, max_price="1"))["id"]
    lease = await rig.take()
    pieces = ["one ", "two ", "three ", "four ", "five"]
    for number, text in enumerate(pieces, 1):
        told = {"token": lease["token"], "parts": [{"sequence": number, "text": text}]}
        answer = await rig.call("POST", f"/leases/{lease['attempt']}/parts", told)
        assert answer.json() == {"status": "live", "kept": number, "heard": number}
    output = {"message": {"role": "assistant", "content": "".join(pieces)}, "model": "tiny", "finish_reason": "stop"}
    answer = await rig.deliver(lease, output, usage={"completion_tokens": 100_000})
    bytes_counted = len("Count to five.") + len("".join(pieces))
    assert answer.status_code == 200, answer.text
    found = (await buyer.get(f"/api/v1/ai/jobs/{job}")).json()
    assert (found["units"], found["price"]) == (bytes_counted, f"{bytes_counted * 20 / 10**8:.8f}".rstrip("0"))
    assert found["history"][0]["reason"] == "overcounted" and "100000" in found["history"][0]["note"]
    balance = (await buyer.get(f"/api/v1/trading/accounts/{buyer.principal.account}")).json()
    assert float(balance["available"]) == pytest.approx(10 - float(found["price"])) and float(balance["held"]) == 0
    await fleet.later(6)
    for _ in range(600):
        if (await fleet.see(owner, rig))["reputation"] < PRIOR:
            break
        await asyncio.sleep(0.05)
    told = (await owner.get(f"{GPU}/miners/{rig.id}/reputation")).json()
    assert [(day["good"], day["bad"], day["overcounted"]) for day in told["days"]] == [(0, 1, 1)]
    assert told["value"] == (await fleet.see(owner, rig))["reputation"] == 0.4
    (row,) = await fleet.sql(
        "SELECT outcome, reason FROM gpu.reputation_events WHERE miner = $1", ids.decode("mnr", rig.id)
    )
    assert (row["outcome"], row["reason"]) == ("succeeded", "overcounted")


async def test_work_for_ones_own_miner_raises_nothing_and_costs_nothing(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(funds="10"), await fleet.owner(funds="10")
    rig = await fleet.rig(owner, region="own-work")
    here = {"region": "own-work"}
    for who in (owner, owner, buyer):
        await fleet.submit(who, requirements=here)
        assert (await rig.deliver(await rig.take())).json()["state"] == "succeeded"
    await fleet.submit(owner, requirements=here, retry={"attempts_max": 1})
    lease = await rig.take()
    failure = {"token": lease["token"], "fault": "miner", "reason": "broken"}
    assert (await rig.call("POST", f"/leases/{lease['attempt']}/failure", failure)).status_code == 200
    await fleet.later(6)
    for _ in range(600):
        if len(await fleet.sql(ATTEMPTS_OF, ids.decode("mnr", rig.id))) == 4:
            break
        await asyncio.sleep(0.05)
    assert [row["is_own_work"] for row in await fleet.sql(ATTEMPTS_OF, ids.decode("mnr", rig.id))].count(True) == 3
    told = (await owner.get(f"{GPU}/miners/{rig.id}/reputation")).json()
    assert [(day["good"], day["bad"]) for day in told["days"]] == [(1, 0)]
    assert told["value"] == (await fleet.see(owner, rig))["reputation"] == 0.6


async def test_a_miner_without_events_is_neutral_and_new(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    told = (await owner.get(f"{GPU}/miners/{rig.id}/reputation")).json()
    assert (told["value"], told["newcomer"], told["days"]) == (0.5, True, [])


async def test_the_modules_own_role_cannot_rewrite_what_happened(fleet: Fleet) -> None:
    for table in ("reputation_events", "status_changes"):
        (row,) = await fleet.sql(
            "SELECT has_table_privilege('aitbc_gpu', $1, 'UPDATE') AS can_change, "
            "has_table_privilege('aitbc_gpu', $1, 'DELETE') AS can_delete",
            f"gpu.{table}",
        )
        assert (row["can_change"], row["can_delete"]) == (False, False)

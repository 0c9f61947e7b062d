"""Claims in batches: jobs are taken per set of equal capabilities, and dealt out by rank, all in one transaction."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from aitbc.kernel.database.outbox import Event, outbox_insert
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.telemetry.spans import is_traced
from aitbc.modules.ai.api import Claim, InputFile, Lease, LeaseCheck, LeasedDevice
from aitbc.modules.ai.batched.bookings import live_bookings
from aitbc.modules.ai.batched.counts import count_ended
from aitbc.modules.ai.batched.device_room import lock_rooms
from aitbc.modules.ai.batched.rows import ATTEMPTS, JOBS, UNRULED, both_from, read_both, save_barred, save_jobs
from aitbc.modules.ai.batched.seats import WAITING_LANES, Seat, Waiting, leave_room, own_tables, tables_of
from aitbc.modules.ai.events import HoldsFreed, JobClosed
from aitbc.modules.ai.models.asks import Ask, ask_for, asks_of
from aitbc.modules.ai.models.checks.tiers import is_quorum
from aitbc.modules.ai.models.devices import Reserved, leased_devices, reserved_of, reserved_text
from aitbc.modules.ai.models.job_spans import trace_wait
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import (
    AVOIDED_FOR,
    Fault,
    Reason,
    State,
    lease_ends,
    move,
    must_leave,
    take,
    take_copy,
)
from aitbc.modules.ai.models.preference import KEPT_FOR, is_kept_from
from aitbc.modules.ai.models.queue import Needs, explores, matches, needs_of
from aitbc.modules.ai.models.tables import JobRow
from aitbc.modules.ai.models.values import AttemptValue, JobValue
from aitbc.modules.ai.models.views import hold_of, holds_of

EMPTY_CHECK = LeaseCheck(text="", tokens=(), passes=0.0)
"""In a lease that is to evaluate an answer: the answer itself is read once the lease is made."""
RUN_SECONDS_MAX = 2**31 - 1
"""No run clock is longer."""
LANES_MAX = 2_000
"""So many lanes' needs are kept in memory."""

LANE_NEEDS = """
SELECT l.lane, (SELECT needs FROM ai.jobs j WHERE j.lane = l.lane AND j.state = 'queued' LIMIT 1) AS needs
FROM unnest($1::uuid[]) AS l(lane)"""

TAKEN = JOBS.columns(
    without=UNRULED
    - {"rank", "needs", "input", "input_digest", "files", "preferred", "request_id"}
    - {"barred", "trusted_only"}
)


# The first jobs of each lane, locked where no other process has them, then the first of all lanes together. A job that
# every one of these miners must leave to others for now is passed over here, so that it cannot block the lane; so is one
# whose money would not be held to the end of the work, which the sweep ends, and one whose limit does not cover what
# these miners ask in its lane, or the price of its kind where they ask nothing of their own: in full, so that no miner
# ever works below its price. A new job is kept for a moment for the miners that its payer prefers. Where an owner ($10) or
# payers say with whom they deal, jobs whose payer and owner don't both admit the other are passed over: the list of the
# owner ($11) is a parameter, and that of a payer is looked up. One that is
# verified goes to no owner who answered it already ($12), and to be checked only to trusted miners.
def _taking(of: str) -> str:
    """The statement that takes jobs, only those `of` somebody where that is a condition."""
    return f"""
SELECT j.* FROM unnest($1::uuid[], $7::bigint[]) AS l(lane, ask)
CROSS JOIN LATERAL (
    SELECT {TAKEN} FROM ai.jobs
    WHERE {of}lane = l.lane AND state = 'queued' AND due_at <= $3 AND id <> ALL($4::uuid[])
      AND run_seconds <= $8
      AND hold_expires_at > $3 + make_interval(secs => run_seconds)
      AND max_price_units / copies >= units_max::numeric * coalesce(l.ask, unit_price_units)
      AND (avoided = '' OR due_at <= $5 OR NOT (SELECT bool_and(strpos(avoided, m) > 0) FROM unnest($6::text[]) AS m))
      AND (preferred = '' OR created_at <= $9 OR (SELECT bool_or(strpos(preferred, m) > 0) FROM unnest($6::text[]) AS m))
      AND ($10::text = '' OR account::text = $10 OR (
          ($11::text = '' OR (left($11, 1) = '+') = (strpos($11, account::text) > 0))
          AND coalesce((SELECT (left(t.owners, 1) = '+') = (strpos(t.owners, $10) > 0)
              FROM ai.terms t WHERE t.account = ai.jobs.account AND t.owners <> ''), true)))
      AND (NOT trusted_only OR $13)
      AND (barred = '' OR NOT (SELECT bool_and(strpos(barred, m) > 0) FROM unnest($12::text[]) AS m))
    ORDER BY rank, id LIMIT $2 FOR UPDATE SKIP LOCKED) j
ORDER BY j.rank, j.id LIMIT $2"""  # noqa: S608 - constants


TAKE = _taking("")
TAKE_OWN = _taking("account = $14 AND ")
"""Own fleet first: the jobs of an owner for its own miners, before those of all others."""

READ_UNRECEIVED = read_both(TAKEN, "a.id = ANY($1::uuid[]) AND a.ended IS NULL AND a.running_at IS NULL ORDER BY a.id")

INSERT_ATTEMPTS = ATTEMPTS.insert(
    without={"running_at", "progress", "ended", "ended_at", "stop_asked_at"}
    | {"usage", "note", "output_digest", "miner_key", "signature"},
    constants={"fault": "'none'", "reason": "''", "message": "''"},
)

# How many jobs of each lane could be taken now, counted no further than there are slots waiting.
COUNT_WAITING = """
SELECT l.lane, (SELECT count(*) FROM (
    SELECT 1 FROM ai.jobs j WHERE j.lane = l.lane AND j.state = 'queued' AND j.due_at <= $2 LIMIT $3) AS few) AS jobs
FROM unnest($1::uuid[]) AS l(lane)"""


@dataclass(slots=True)
class Dealt:
    """What a batch of claims got so far."""

    jobs: list[JobValue] = field(default_factory=list)
    """Those that were leased, and those that had to be closed."""
    attempts: list[AttemptValue] = field(default_factory=list)
    refused: list[JobValue] = field(default_factory=list)
    """Those that had to be closed."""
    own: set[str] = field(default_factory=set)
    """Those that their owner's own miners took before their turn: where the lane stands is not known by them."""


class Dealer:
    """Deals waiting jobs out to claims."""

    def __init__(self, database: Database, on_served: Callable[[str, int], None]) -> None:
        self._database = database
        self._on_served = on_served
        self._needs: dict[UUID, Needs] = {}
        self.on_wanted: Callable[[Sequence[JobValue]], None] = lambda jobs: None
        """Called with the jobs of quorums that others are still wanted for, once the leases are committed."""
        self.short_of_gpus: set[str] = set()
        """Miners that got nothing when they last asked, and whose GPUs were not enough for a job that waits."""

    async def claim_many(self, claims: Sequence[Claim]) -> list[Sequence[Lease]]:
        """The leases of each claim, after their transaction committed."""
        seats = [Seat(claim, [], claim.slots) for claim in claims]
        at = now()
        async with self._database.raw_transaction() as connection:
            waiting = await self._waiting_lanes(connection, [seat.claim for seat in seats])
            lanes = waiting.lanes
            leave_room(seats, waiting.leases)
            for seat in seats:
                waiting.tell(seat)
            await _give_again(connection, seats, waiting.unreceived)
            booked = {seat.claim.capabilities.booking or "" for seat in seats} - {""}
            live = await live_bookings(connection, booked, at) if lanes else set()
            tables = _fitting_tables(seats, lanes, live) if lanes else []
            await _seat_devices(connection, tables)
            dealt = Dealt()
            for table, fitting in tables:
                for owner, own in own_tables(table, waiting.own):
                    await self._deal(connection, fitting, own, dealt, at, owner=owner)
                await self._deal(connection, fitting, table, dealt, at)
                self._note_short(table, fitting)
            await _save(connection, dealt.jobs, dealt.attempts, dealt.refused)
        _trace(dealt)
        if dealt.refused:
            self._database.notify_published()
        for job in dealt.jobs:
            if job.id not in dealt.own:
                self._on_served(job.kind, job.rank)
        if wanted := [job for job in dealt.jobs if job.state == State.QUEUED]:
            self.on_wanted(wanted)
        return [seat.leases for seat in seats]

    async def _deal(
        self,
        connection: Connection,
        fitting: dict[UUID, Needs],
        table: list[Seat],
        dealt: "Dealt",
        at: datetime,
        *,
        owner: str | None = None,
    ) -> None:
        """Deal jobs of these lanes out to claims with equal capabilities; only this owner's where one is named."""
        while fitting := _with_room(fitting, table):
            found = await self._take(connection, fitting, table, [job.id for job in dealt.jobs], at, owner)
            pairs, spoilt = deal(found, table, at)
            dealt.jobs += [*{job.id: job for job, _ in pairs}.values(), *spoilt]
            dealt.attempts += [attempt for _, attempt in pairs]
            dealt.refused += spoilt
            if owner is not None:
                dealt.own.update(job.id for job, _ in pairs)
            if len(_with_room(fitting, table)) == len(fitting):
                break  # nothing was passed over for want of a GPU or of a model's slots

    def _note_short(self, table: Sequence[Seat], fitting: dict[UUID, Needs]) -> None:
        for seat in table:
            if seat.leases or not any(needs.gpus and not _has_gpus(seat, needs) for needs in fitting.values()):
                self.short_of_gpus.discard(seat.claim.miner)
            else:
                self.short_of_gpus.add(seat.claim.miner)

    async def waiting(self, slots: int) -> list[tuple[Needs, int]]:
        """The needs of every lane with jobs that are due, and how many there are, counted up to `slots`."""
        async with self._database.raw() as connection:
            lanes = (await self._waiting_lanes(connection, ())).lanes
            rows = await connection.fetch(COUNT_WAITING, list(lanes), now(), slots)
        return [(lanes[row["lane"]], row["jobs"]) for row in rows if row["jobs"]]

    async def _waiting_lanes(self, connection: Connection, claims: Sequence[Claim]) -> "Waiting":
        """The lanes with waiting jobs and what these need, and what is known of those who claim."""
        owners = {ids.decode("acct", claim.miner_account) for claim in claims}
        miners = [ids.decode("mnr", claim.miner) for claim in claims]
        sessions = [claim.session for claim in claims if claim.session is not None]
        rows = await connection.fetch(WAITING_LANES, miners, list(owners), sessions)
        found = Waiting()
        lanes = found.read(rows)
        known = {lane: self._needs[lane] for lane in lanes if lane in self._needs}
        if strange := [lane for lane in lanes if lane not in known]:
            read = await connection.fetch(LANE_NEEDS, strange)
            known |= {row["lane"]: needs_of(row["needs"]) for row in read if row["needs"] is not None}
        found.lanes = known
        # What a lane's jobs need never changes: one that ran dry is known when it has jobs again.
        self._needs = known if len(self._needs) > LANES_MAX else self._needs | known
        return found

    async def _take(
        self,
        connection: Connection,
        lanes: dict[UUID, Needs],
        table: list[Seat],
        taken: list[str],
        at: datetime,
        owner: str | None,
    ) -> list[JobValue]:
        if all(len(seat.leases) >= seat.room for seat in table):
            return []
        asks = asks_of(table[0].asks)
        records = await connection.fetch(
            TAKE if owner is None else TAKE_OWN,
            list(lanes),
            sum(seat.room - len(seat.leases) for seat in table),
            at,
            [ids.decode("job", job) for job in taken],
            at - AVOIDED_FOR,
            [seat.claim.miner for seat in table],
            [None if (ask := ask_for(needs, asks, at)) is None else ask.units for needs in lanes.values()],
            table[0].claim.capabilities.run_seconds_max or RUN_SECONDS_MAX,
            at - KEPT_FOR,
            table[0].owner,
            table[0].buyers,
            [seat.claim.miner_account for seat in table],
            any(seat.is_trusted for seat in table),
            *(() if owner is None else (ids.decode("acct", owner),)),
        )
        return [TAKEN.read(record) for record in records]


async def _give_again(connection: Connection, seats: Sequence[Seat], unreceived: Sequence[tuple[str, str]]) -> None:
    """Give leases once more that were made for an earlier poll of the same session, and that the miner does not have.

    A miner polls one after the other, so that their answer was lost on the way; no work was begun under them.
    """
    missing = {
        attempt: seat
        for seat in seats
        for session, attempt in unreceived
        if seat.claim.session == session and attempt not in seat.claim.at_hand
    }
    if not missing:
        return
    records = await connection.fetch(READ_UNRECEIVED, [ids.decode("att", attempt) for attempt in missing])
    for job, attempt in (both_from(record, TAKEN) for record in records):
        seat = missing[attempt.id]
        if seat.claim.miner == attempt.miner and len(seat.leases) < seat.claim.slots:
            seat.room = min(seat.room + 1, seat.claim.slots)  # it is one of those that its slots hold already
            seat.add(lease_again(job, attempt), job)


def _fitting_tables(
    seats: Sequence[Seat], lanes: dict[UUID, Needs], live: Collection[str]
) -> list[tuple[list[Seat], dict[UUID, Needs]]]:
    """The claims with equal capabilities together, each time with the lanes that they fit; those that fit none are left
    out, and so are those of miners that are in a booking which is over.
    """
    tables = []
    for table in tables_of(seats):
        offer = table[0].claim.capabilities
        if offer.booking is not None and offer.booking not in live:
            continue
        fitting = {
            lane: needs
            for lane, needs in lanes.items()
            if matches(needs, offer) and any(seat.may_have(needs) for seat in table)
        }
        if fitting:
            tables.append((table, fitting))
    return tables


async def _seat_devices(connection: Connection, tables: Sequence[tuple[list[Seat], dict[UUID, Needs]]]) -> None:
    """Lock what is left of the GPUs of those who may get a job that asks for some; nearly always that is nobody."""
    asking = [seat for table, fitting in tables if any(needs.gpus for needs in fitting.values()) for seat in table]
    if asking:
        rooms = await lock_rooms(connection, {seat.claim.miner for seat in asking})
        for seat in asking:
            seat.devices = rooms.get(seat.claim.miner)


def _with_room(lanes: dict[UUID, Needs], table: Sequence[Seat]) -> dict[UUID, Needs]:
    """The lanes whose jobs one of these claims could still have: neither GPUs nor the model's slots are wanting."""
    if any(needs.miner is not None for needs in lanes.values()):  # whom they are for may have no room left
        open_seats = [seat for seat in table if len(seat.leases) < seat.room]
        lanes = {lane: needs for lane, needs in lanes.items() if any(seat.may_have(needs) for seat in open_seats)}
    if any(seat.claim.models_free for seat in table):
        lanes = {lane: needs for lane, needs in lanes.items() if any(seat.takes_model(needs.model) for seat in table)}
    return _with_devices(lanes, table)


def _with_devices(lanes: dict[UUID, Needs], table: Sequence[Seat]) -> dict[UUID, Needs]:
    """The lanes whose jobs one of these claims could still have: where they ask for GPUs, these must be left."""
    if not any(needs.gpus for needs in lanes.values()):
        return lanes
    open_seats = [seat for seat in table if len(seat.leases) < seat.room]
    return {
        lane: needs
        for lane, needs in lanes.items()
        if not needs.gpus or any(_has_gpus(seat, needs) for seat in open_seats)
    }


def deal(
    jobs: Sequence[JobValue], table: Sequence[Seat], at: datetime
) -> tuple[list[tuple[JobValue, AttemptValue]], list[JobValue]]:
    """Give each job, in its order, to the miner whose turn it is; returns what was dealt, and what had to be closed.

    A quorum's job goes to several, each of another owner, as far as they are wanted and there. Miners with the better
    reputation come first, but of the newcomers' share a newcomer does. A job whose stored input no longer decodes is
    closed, so that it cannot hold up the queue.
    """
    proven = sorted(table, key=lambda seat: (seat.claim.newcomer, -round(seat.claim.reputation, 1)))
    fresh = sorted(table, key=lambda seat: (not seat.claim.newcomer, -round(seat.claim.reputation, 1)))
    dealt: list[tuple[JobValue, AttemptValue]] = []
    spoilt: list[JobValue] = []
    for job in jobs:
        exploring = job.token == 0 and explores(ids.decode("job", job.id))
        try:
            while (attempt := _give(job, fresh if exploring else proven, at)) is not None:
                dealt.append((job, attempt))
                if job.state != State.QUEUED:
                    break
        except (msgspec.DecodeError, TypeError):
            move(job, State.FAILED, Reason.UNDECODABLE, at=at, fault=Fault.PLATFORM)
            spoilt.append(job)
    return dealt, spoilt


def _give(job: JobValue, seats: Sequence[Seat], at: datetime) -> AttemptValue | None:
    """Lease a job to the first claim that may have it; none where there is none.

    Raises as `lease_job` does.
    """
    size, needs = len(job.input or ""), needs_of(job.needs)
    seat, devices = _seat_for(job, needs, seats, size, at)
    if seat is None:
        return None
    attempt, lease = lease_job(job, seat.claim, at, devices, ask_for(needs, asks_of(seat.asks), at))
    seat.add(lease, job)
    return attempt


def _seat_for(
    job: JobValue, needs: Needs, seats: Sequence[Seat], size: int, at: datetime
) -> tuple[Seat | None, Sequence[Reserved]]:
    """The first claim that may have a job, and the GPUs that it then has, which are reserved."""
    for seat in seats:
        if not seat.has_room(size) or must_leave(job.avoided, seat.claim.miner, job.due_at, at):
            continue
        if not seat.takes_model(needs.model) or not seat.may_have(needs):
            continue
        if is_kept_from(job.preferred, seat.claim.miner, job.created_at, at):
            continue
        if seat.claim.miner_account in job.barred or (job.trusted_only and not seat.is_trusted):
            continue
        if not needs.gpus:
            return seat, ()
        if seat.devices is not None and (devices := seat.devices.take(needs)):
            return seat, devices
    return None, ()


def _has_gpus(seat: Seat, needs: Needs) -> bool:
    """Whether what a job asks for is left of the GPUs of a claim's miner."""
    return seat.devices is not None and bool(seat.devices.choose(needs))


def lease_job(
    job: JobValue, claim: Claim, at: datetime, devices: Sequence[Reserved] = (), ask: Ask | None = None
) -> tuple[AttemptValue, Lease]:
    """Lease a job to a miner at what it asks, which is frozen here.

    Raises `msgspec.DecodeError` or `TypeError` for a stored input that cannot be read.
    """
    value = msgspec.json.decode(job.input)  # type: ignore[arg-type]
    files = msgspec.json.decode(job.files, type=tuple[InputFile, ...]) if job.files else ()
    attempt = ids.new_id("att")
    take(job, attempt, at=at)
    if is_quorum(job.verification):
        take_copy(job, claim.miner_account, at=at)
    expires_at, run_until = lease_ends(job, at)
    row = AttemptValue(
        id=attempt,
        job=job.id,
        kind=job.kind,
        token=job.token,
        miner=claim.miner,
        miner_account=claim.miner_account,
        started_at=at,  # also where the job was created while the clock was ahead: its time to run counts from here
        run_until=run_until,
        expires_at=expires_at,
        ask_units=None if ask is None else ask.units,
        offer=None if ask is None else ask.offer,
        devices=reserved_text(devices),
        session=claim.session,
        newcomer=claim.newcomer,
    )
    return row, lease_view(job, row, value, files, devices)


def _trace(dealt: Dealt) -> None:
    """Tell how long the jobs waited that were leased."""
    if is_traced():
        jobs = {job.id: job for job in dealt.jobs}
        for attempt in dealt.attempts:
            trace_wait(jobs[attempt.job], attempt, jobs[attempt.job].due_at)


def lease_again(job: JobValue, attempt: AttemptValue) -> Lease:
    """A live lease as its miner got it, from what is stored."""
    files = msgspec.json.decode(job.files, type=tuple[InputFile, ...]) if job.files else ()
    value = msgspec.json.decode(job.input or "null")
    return lease_view(job, attempt, value, files, reserved_of(attempt.devices))


def lease_view(
    job: JobValue, attempt: AttemptValue, value: Any, files: tuple[InputFile, ...], devices: Sequence[Reserved]
) -> Lease:
    """A lease as the miner gets it."""
    return Lease(
        attempt=attempt.id,
        job=job.id,
        token=attempt.token,
        number=attempt.token,
        kind=job.kind,
        input=value,
        input_digest=job.input_digest,
        files=files,
        run_seconds=(attempt.run_until - attempt.started_at) / timedelta(seconds=1),
        expires_at=attempt.expires_at,
        devices=_leased_devices(job, devices),
        request_id=job.request_id,
        check=EMPTY_CHECK if job.trusted_only and KINDS[job.kind].is_evaluated else None,
    )


def _leased_devices(job: JobValue, devices: Sequence[Reserved]) -> tuple[LeasedDevice, ...] | None:
    """The GPUs of a lease. Of a booked GPU that the job did not ask for by number its miner disposes."""
    if devices:
        return leased_devices(devices)
    chosen_by_miner = not KINDS[job.kind].takes_devices or needs_of(job.needs).booking is not None
    return None if chosen_by_miner else ()


def closed(job: JobValue | JobRow) -> JobClosed:
    """The event of a job that ended without success."""
    return JobClosed(job=job.id, hold=hold_of(job.id), state=job.state, reason=job.reason, account=job.account)


def closings(job: JobValue | JobRow) -> list[Event]:
    """The events of a job that ended without success, by which all that is held for it goes back."""
    if job.copies == 1:
        return [closed(job)]
    return [closed(job), HoldsFreed(job=job.id, holds=holds_of(job.id, job.copies)[1:], reason=job.reason)]


async def _save(
    connection: Connection, taken: Sequence[JobValue], attempts: Sequence[AttemptValue], refused: Sequence[JobValue]
) -> None:
    """Write the leases, and the end of jobs that nobody can do."""
    writes = WriteBatch()
    if attempts:
        writes.write(INSERT_ATTEMPTS, attempts)
    save_jobs(writes, [job for job in taken if not is_quorum(job.verification)])
    save_barred(writes, [job for job in taken if is_quorum(job.verification)])
    if refused:
        events = [(event, job.request_id) for job in refused for event in closings(job)]
        statement, columns = outbox_insert(
            "ai", [event for event, _ in events], requests=[request for _, request in events]
        )
        writes.add(statement, *columns)
    count_ended(writes, refused)
    await writes.do(connection, commits=True)

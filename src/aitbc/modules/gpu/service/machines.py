"""Machines of bookers: what a booking gives, the connections that its booker opens, and what its miner is to do."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import delete, func, select, update

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.tasks import is_set_within
from aitbc.modules.ai.api import BookingNotFound, BookingNotOpen
from aitbc.modules.gpu.api import MachineOffer, MinerNotFound, MinerNotThere
from aitbc.modules.gpu.models.bookings import BookingRow, BookingState
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.machines import (
    HEARD_MAX,
    MachineSession,
    MachineSessionRow,
    MachineView,
    OpenMachineSession,
    SessionState,
    count_machine,
)
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow
from aitbc.modules.gpu.models.views import machine_of
from aitbc.modules.gpu.service.heartbeats import BookingId
from aitbc.modules.gpu.service.miner_rows import miner_of_key
from aitbc.modules.gpu.service.settings import GpuSettings

KNOWN_MAX = 1000
WATCH_SECONDS_MAX = 25.0
LOOK_SECONDS = 1.0
"""How often a miner that waits is looked at again: what another server was told reaches it so."""
LOST_AFTER = timedelta(seconds=60)
"""After so long without a word from the process of its ends, a connection counts as lost."""
KEPT = timedelta(days=7)
NOT_SAID = "its miner does not say that it gives machines: it may be an older one"
WAITING, OPEN, ENDED = SessionState.WAITING, SessionState.OPEN, SessionState.ENDED
SessionId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^mses_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^mses_[0-9a-z]{26}$", "examples": ["mses_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]


class MachineNotOffered(Conflict):
    """The miner of this booking gives no machine; the message says why."""

    code = "machine_not_offered"


class MachineSessionIncomplete(Invalid):
    """`put` and `get` need a `path`, `port` needs a `port`, and a command and a terminal are for `shell`."""

    code = "machine_session_incomplete"


class MachineSessionNotFound(NotFound):
    """There is no such connection to a machine, or it is not yours."""

    code = "machine_session_not_found"


class MachineSessionOver(Conflict):
    """This connection to a machine has ended, or its other end did not come in time; open another one."""

    code = "machine_session_over"


class MachineSessionElsewhere(AppError):
    """The other end of this connection is at another server of the installation: try again, or ask that one.

    Where a load balancer stands before several servers, `gpu.own_url` names each of them.
    """

    status, code, exit_code = 421, "machine_session_elsewhere", 6


class TooManyMachineSessions(TooMany):
    """There are as many connections to this machine as there may be; close some."""

    code = "too_many_machine_sessions"


class WatchMachine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner has of a machine, and how long it waits for something else to be wanted."""

    booking: BookingId | None = None
    """Whose machine it keeps; null for none. For example `book_01k0000000000000000000000a`."""
    runs: bool = False
    """Whether that machine runs now: its time is counted from one such word to the next."""
    known: Annotated[tuple[SessionId, ...], Meta(max_length=KNOWN_MAX)] = ()
    """The connections that it serves already."""
    wait_seconds: Annotated[float, Meta(ge=0, le=WATCH_SECONDS_MAX)] = WATCH_SECONDS_MAX
    """How long to wait until something is wanted. For example `25`."""


class SessionWanted(Struct, frozen=True, kw_only=True):
    """A connection that the miner is to serve."""

    id: str
    """The connection. For example `mses_01k0000000000000000000000a`."""
    wanted: OpenMachineSession
    """What it is for."""
    path: str
    """Where its WebSocket is opened. For example `/api/v1/gpu/sessions/mses_01k0000000000000000000000a/miner`."""
    url: str | None
    """The server that it is to be opened at; null for the one that was asked. For example `https://a.example.org`."""


class MachineWanted(Struct, frozen=True, kw_only=True):
    """What is wanted of a miner now."""

    booking: str | None
    """The booking that it is in: any other's machine is to be ended and its disk wiped.
    For example `book_01k0000000000000000000000a`."""
    state: Annotated[str, one_of(("none", "paid", "unpaid"))]
    """`paid` while its time is paid; `unpaid` when its machine is to stand still until it is, its disk kept."""
    sessions: tuple[SessionWanted, ...]
    """The connections that wait for it."""


class SessionEnd(Struct, frozen=True):
    """One end of a connection, as the process needs it that carries it."""

    session: str
    booking: str
    side: str
    """`client` or `miner`."""


class Machines:
    """Connections to machines, kept in the database: any server may be asked; their bytes pass by none of this."""

    def __init__(self, db: Database, settings: GpuSettings) -> None:
        self._db = db
        self._settings = settings
        self._woken: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._looks: Batcher[str, MachineWanted] = Batcher(self._read_wanted)

    async def offer_of(self, miner: str) -> MachineOffer:
        """What a miner gives as a machine to whoever books it. Raises `MinerNotFound`."""
        if not ids.is_id("mnr", miner):
            raise MinerNotFound
        async with self._db.reading() as session:
            profile = await session.get(ProfileRow, miner)
        if profile is None:
            raise MinerNotFound
        return _offer_of(profile)

    async def view(self, who: Principal, booking: str) -> MachineView:
        """What a booking gives; for its booker and for the owner of its miner. Raises `BookingNotFound`."""
        if not ids.is_id("book", booking):
            raise BookingNotFound
        counting = select(func.count()).select_from(MachineSessionRow)
        async with self._db.reading() as session:
            row = await session.get(BookingRow, booking)
            if row is None or not (who.owns(row.account) or who.owns(row.owner)):
                raise BookingNotFound
            profile = None if row.miner is None else await session.get(ProfileRow, row.miner)
            miner = None if row.miner is None else await session.get(MinerRow, row.miner)
            ours = (MachineSessionRow.booking == booking, MachineSessionRow.state != ENDED)
            sessions = await session.scalar(counting.where(*ours)) or 0
        offer = _offer_of(profile)
        at = now()
        return MachineView(
            booking=booking,
            offered=offer.available,
            reason=offer.reason,
            images=offer.images,
            network=offer.network,
            usable=offer.available and _is_paid(row, at) and miner is not None and miner.status == Status.ONLINE,
            running=row.machine_seen_at is not None and row.machine_seen_at + HEARD_MAX > at,
            used_seconds=row.machine_ms / 1000,
            sessions=sessions,
        )

    async def open(
        self, who: Principal, booking: str, wanted: OpenMachineSession, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> MachineSession:
        """Ask for a connection to the machine of a booking that the caller pays for; both ends then have a minute.

        Raises `BookingNotFound`, `BookingNotOpen`, `MinerNotThere`, `MachineNotOffered`, `MachineSessionIncomplete`,
        `TooManyMachineSessions`.
        """
        _require_complete(wanted)
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MachineSession)) is not None:
                return earlier
            row = await uow.find(BookingRow, booking, lock=True, missing=BookingNotFound)
            if row.account != who.account:  # nobody else, whatever they may do besides
                raise BookingNotFound
            at = now()
            miner = await self._require_usable(uow, row, wanted, at)
            made = MachineSessionRow(
                id=ids.new_id("mses"),
                booking=booking,
                miner=miner,
                account=who.account,
                wanted=msgspec.json.encode(wanted).decode(),
                state=WAITING,
                created_at=at,
                heard_at=at,
            )
            uow.add(made)
            await uow.audit(who.account, who.key, "machine.open", made.id, booking=booking, purpose=wanted.purpose)
            view = await uow.answer(once, self._view(made, wanted.purpose))
        self._woken[miner].set()
        return view

    async def _require_usable(self, uow: UnitOfWork, row: BookingRow, wanted: OpenMachineSession, at: datetime) -> str:
        if not _is_paid(row, at):
            over = row.state != BookingState.ACTIVE or row.gpu is not None
            raise BookingNotOpen(
                None if over else "Its paid time has ended; the machine goes on once it is paid again."
            )
        if row.miner is None:
            raise MachineNotOffered
        offer = _offer_of(await uow.session.get(ProfileRow, row.miner))
        if not offer.available:
            raise MachineNotOffered(f"This booking gives no machine: {offer.reason}.")
        if wanted.image is not None and wanted.image not in offer.images:
            raise MachineNotOffered(f"Its machine starts from {', '.join(offer.images)}, not from {wanted.image}.")
        if wanted.network and not offer.network:
            raise MachineNotOffered("Its owner gives machines no network.")
        miner = await uow.session.get_one(MinerRow, row.miner)
        if miner.status != Status.ONLINE:
            raise MinerNotThere
        ours = (MachineSessionRow.booking == row.id, MachineSessionRow.state != ENDED)
        counting = select(func.count()).select_from(MachineSessionRow).where(*ours)
        if (await uow.session.scalar(counting) or 0) >= self._settings.machine_sessions_max:
            raise TooManyMachineSessions
        return row.miner

    def _view(self, row: MachineSessionRow, purpose: str) -> MachineSession:
        return MachineSession(
            id=row.id,
            booking=row.booking,
            miner=row.miner,
            purpose=purpose,
            path=f"/api/v1/gpu/sessions/{row.id}/client",
            url=self._settings.own_url,
            expires_at=row.created_at + timedelta(seconds=self._settings.machine_wait_seconds),
        )

    # The miner's side

    async def watch(self, who: Principal, sent: WatchMachine, draining: asyncio.Event) -> MachineWanted:
        """What is wanted of a miner; waits while that is what it has. Raises `MinerNotFound`."""
        miner = miner_of_key(who)
        await self._count(miner, sent)
        loop = asyncio.get_running_loop()
        until = loop.time() + sent.wait_seconds
        woken = self._woken[miner]
        while True:
            woken.clear()
            wanted = await self._looks.do(miner)
            is_new = any(one.id not in sent.known for one in wanted.sessions)
            is_other = sent.booking is not None and (
                wanted.booking != sent.booking or (wanted.state == "unpaid" and sent.runs)
            )
            if is_new or is_other or wanted.booking is None or loop.time() >= until or draining.is_set():
                return wanted
            # At whole seconds, so that all that wait are looked at together.
            pause = min(LOOK_SECONDS - loop.time() % LOOK_SECONDS, until - loop.time())
            await is_set_within(woken, max(pause, 0.01))

    async def _count(self, miner: str, sent: WatchMachine) -> None:
        """Count the time of a machine, by what its miner says of it now."""
        if sent.booking is None:
            return
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get(BookingRow, sent.booking, with_for_update=True)
            if row is not None and row.miner == miner and row.state == BookingState.ACTIVE:
                count_machine(row, now(), runs=sent.runs)

    async def _read_wanted(self, miners: Sequence[str]) -> list[MachineWanted | AppError]:
        """What is wanted of several miners."""
        booked = (
            select(MinerRow.id, BookingRow)
            .join(BookingRow, BookingRow.id == MinerRow.booking)
            .where(MinerRow.id.in_(miners), BookingRow.state == BookingState.ACTIVE)
        )
        waits = (MachineSessionRow.miner.in_(miners), MachineSessionRow.state == WAITING)
        async with self._db.reading() as session:
            bookings = {row[0]: row[1] for row in await session.execute(booked)}
            sessions = (
                await session.scalars(select(MachineSessionRow).where(*waits).order_by(MachineSessionRow.id))
            ).all()
        at = now()
        return [
            self._wanted_of(bookings.get(miner), [one for one in sessions if one.miner == miner], at)
            for miner in miners
        ]

    def _wanted_of(
        self, booking: BookingRow | None, sessions: Sequence[MachineSessionRow], at: datetime
    ) -> MachineWanted:
        if booking is None:
            return MachineWanted(booking=None, state="none", sessions=())
        is_paid = _is_paid(booking, at)
        oldest = at - timedelta(seconds=self._settings.machine_wait_seconds)
        wanted = [
            SessionWanted(
                id=one.id,
                wanted=msgspec.json.decode(one.wanted, type=OpenMachineSession),
                path=f"/api/v1/gpu/sessions/{one.id}/miner",
                url=self._settings.own_url if one.place is None else url_of(one.place),
            )
            for one in sessions
            if is_paid and one.booking == booking.id and one.created_at > oldest
        ]
        return MachineWanted(booking=booking.id, state="paid" if is_paid else "unpaid", sessions=tuple(wanted))

    # The process that carries a connection

    async def admit(self, who: Principal, session: str, side: str, place: str) -> SessionEnd:
        """Admit one end of a connection to the process that asks; the first one decides which it is.

        Raises `MachineSessionNotFound`, `MachineSessionOver`, `BookingNotOpen`, `MachineSessionElsewhere`.
        """
        async with self._db.unit_of_work() as uow:
            row = await uow.find(MachineSessionRow, session, lock=True, missing=MachineSessionNotFound)
            is_theirs = row.miner == miner_of_key(who) if side == "miner" else row.account == who.account
            if not is_theirs:
                raise MachineSessionNotFound
            at = now()
            if row.state != WAITING or row.created_at + timedelta(seconds=self._settings.machine_wait_seconds) < at:
                raise MachineSessionOver
            if not _is_paid(await uow.session.get_one(BookingRow, row.booking), at):
                raise BookingNotOpen
            if row.place is None:
                row.place = place
            elif row.place != place:
                raise MachineSessionElsewhere(f"The other end of this connection is at {row.place}.")
            return SessionEnd(session, row.booking, side)

    async def note_open(self, session: str) -> None:
        """Both ends of a connection are there."""
        await self._set(session, (WAITING,), state=OPEN, heard_at=now())

    async def note_ended(self, session: str, reason: str) -> None:
        """A connection has ended."""
        await self._set(session, (WAITING, OPEN), state=ENDED, ended_at=now(), reason=reason[:100])

    async def _set(self, session: str, states: Sequence[str], **values: object) -> None:
        ours = (MachineSessionRow.id == session, MachineSessionRow.state.in_(states))
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(update(MachineSessionRow).where(*ours).values(**values))

    async def renew(self, sessions: Sequence[str]) -> None:
        """Say that the connections that this process carries go on."""
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(
                update(MachineSessionRow).where(MachineSessionRow.id.in_(sessions)).values(heard_at=now())
            )

    async def unpaid(self, bookings: Sequence[str]) -> set[str]:
        """Those of these bookings that are over, or whose paid time is."""
        at = now()
        async with self._db.reading() as session:
            rows = await session.scalars(select(BookingRow).where(BookingRow.id.in_(bookings)))
            return set(bookings) - {row.id for row in rows if _is_paid(row, at)}

    async def sweep(self) -> None:
        """End the connections that nobody came for or whose process is gone, and forget old ones."""
        at = now()
        waited = at - timedelta(seconds=self._settings.machine_wait_seconds) - LOST_AFTER
        lost = (MachineSessionRow.state == OPEN) & (MachineSessionRow.heard_at < at - LOST_AFTER)
        late = (MachineSessionRow.state == WAITING) & (MachineSessionRow.created_at < waited)
        old = (MachineSessionRow.state == ENDED) & (MachineSessionRow.ended_at < at - KEPT)
        async with self._db.unit_of_work() as uow:
            for which, reason in ((lost, "lost"), (late, "nobody_came")):
                values: Mapping[str, object] = {"state": ENDED, "ended_at": at, "reason": reason}
                await uow.session.execute(update(MachineSessionRow).where(which).values(**values))
            await uow.session.execute(delete(MachineSessionRow).where(old))


def url_of(place: str) -> str | None:
    """The address of a process, where it was told one: it stands before its name."""
    url = place.partition(" ")[0]
    return url if url.startswith("http") else None


def _offer_of(profile: ProfileRow | None) -> MachineOffer:
    found = None if profile is None else machine_of(profile)
    return MachineOffer(available=False, reason=NOT_SAID) if found is None else found


def _is_paid(row: BookingRow, at: datetime) -> bool:
    return row.state == BookingState.ACTIVE and row.ends_at > at


def _require_complete(wanted: OpenMachineSession) -> None:
    needs_path, needs_port = wanted.purpose in ("put", "get"), wanted.purpose == "port"
    is_shell = wanted.purpose == "shell"
    if (
        needs_path != (wanted.path is not None)
        or needs_port != (wanted.port is not None)
        or (not is_shell and (wanted.command or wanted.terminal is not None))
    ):
        raise MachineSessionIncomplete

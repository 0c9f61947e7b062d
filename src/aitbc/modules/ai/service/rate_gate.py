"""The gate of rate limits: each request is counted in memory, against what this process has taken of its limits.

A process takes shares of a limit before it needs them, so that no request waits for the database but at the very end
of a limit. All that is taken is noted there first: no number of processes, and no restart, lets more through.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.modules.ai.batched.rates import (
    NEVER,
    drop_slots,
    keep_slots,
    read_limits,
    take_of_window,
    take_slots,
)
from aitbc.modules.ai.models.rate_limits import (
    WINDOW_SECONDS,
    RateLimit,
    RateLimited,
    Standing,
    chunk_of,
    standing_headers,
)
from aitbc.modules.ai.service.aliases import Aliases

OVERLAP = timedelta(seconds=10)
"""Limits that changed so long ago are read again: their transactions may have committed late."""
FULL_SECONDS = 0.2
"""So long a limit of requests at once that was full elsewhere is not asked again."""

log = structlog.get_logger("aitbc.ai")


class Window:
    """What this process has of one measure of a limit, in the minute that goes on."""

    def __init__(self, db: Database, limit: str, measure: str, most: int) -> None:
        self._db = db
        self._place = limit, measure
        self.most = most
        self._start = NEVER
        self._free = 0
        self._granted = 0
        self._lock = asyncio.Lock()
        self._prefetch: asyncio.Task[None] | None = None

    async def take(self, amount: int) -> bool:
        """Count so much; False where the minute has no more of it."""
        if amount > self.most:
            return False
        while True:
            self._turn()
            if self._free >= amount:
                self._free -= amount
                self._fetch_early()
                return True
            if self._granted >= self.most:
                return False
            async with self._lock:
                self._turn()
                if self._free < amount and self._granted < self.most:
                    await self._fetch(max(chunk_of(self.most), amount - self._free))

    def give_back(self, amount: int, start: datetime) -> None:
        """Count so much less, if the minute in which it was taken still goes on."""
        if start == self._start:
            self._free += amount

    @property
    def start(self) -> datetime:
        """When the minute began."""
        return self._start

    def standing(self) -> Standing:
        """How much is left, as far as this process knows."""
        ends = self._start + timedelta(seconds=WINDOW_SECONDS)
        seconds = max(round((ends - now()).total_seconds() + 0.5), 1)
        return Standing(self._place[1], self.most, self.most - self._granted + self._free, seconds)

    def _turn(self) -> None:
        at = now()
        start = datetime.fromtimestamp(int(at.timestamp()) // WINDOW_SECONDS * WINDOW_SECONDS, UTC)
        if start != self._start:
            self._start, self._free, self._granted = start, 0, 0

    def _fetch_early(self) -> None:
        idle = self._prefetch is None or self._prefetch.done()
        if idle and self._granted < self.most and self._free < chunk_of(self.most) // 2:
            self._prefetch = asyncio.create_task(self._top_up())

    async def _top_up(self) -> None:
        async with self._lock:
            with suppress(AppError):  # whoever needs it takes it then
                await self._fetch(chunk_of(self.most))

    async def _fetch(self, wanted: int) -> None:
        start = self._start
        got = await retry(lambda: take_of_window(self._db, *self._place, start, wanted=wanted, most=self.most))
        if start == self._start:
            self._free += got.amount
            self._granted = got.granted

    async def stop(self) -> None:
        """End what is taken early."""
        if self._prefetch is not None:
            await cancel_and_wait([self._prefetch])


class Slots:
    """The places of this process for requests at once, under one limit."""

    def __init__(self, db: Database, process: UUID, limit: str, most: int) -> None:
        self._db = db
        self._process = process
        self.limit = limit
        self.most = most
        self.held = 0
        self.used = 0
        self._full_until = 0.0
        self._lock = asyncio.Lock()

    async def enter(self) -> bool:
        """Take a place; False where all are taken."""
        if self.used >= self.held:
            async with self._lock:
                if self.used >= self.held and clock.elapsed() >= self._full_until:
                    chunk = max(self.most // 20, 1)
                    take = lambda: take_slots(  # noqa: E731
                        self._db, self.limit, self._process, held=self.held, wanted=chunk, most=self.most
                    )
                    self.held = await retry(take)
                    self._full_until = clock.elapsed() + FULL_SECONDS if self.used >= self.held else 0.0
        if self.used >= self.held:
            return False
        self.used += 1
        return True

    def leave(self) -> None:
        """Give a place back."""
        self.used -= 1

    async def keep(self) -> None:
        """Keep the places that are used for others not to take them, and give the rest back."""
        async with self._lock:
            if self.held:
                self.held = self.used
                await keep_slots(self._db, self.limit, self._process, self.held)


class Admission:
    """A request that was let through: what it holds until it ends."""

    def __init__(self) -> None:
        self.standings: list[Window] = []
        self._tokens: list[tuple[Window, datetime, int]] = []
        self._requests: list[tuple[Window, datetime]] = []
        self._slots: list[Slots] = []

    @property
    def headers(self) -> dict[str, str]:
        """How its limits stand."""
        return standing_headers([window.standing() for window in self.standings])

    def settle(self, tokens: int) -> None:
        """The request took so many tokens: what was counted beyond that is given back."""
        for window, start, reserved in self._tokens:
            window.give_back(reserved - tokens, start)
        self._tokens = []

    def release(self) -> None:
        """The request is over."""
        slots, self._slots = self._slots, []
        for one in slots:
            one.leave()

    def undo(self) -> None:
        """The request was refused after all: nothing of it counts."""
        self.settle(0)
        for window, start in self._requests:
            window.give_back(1, start)
        self.release()

    def __del__(self) -> None:
        self.release()  # of a stream that its client left before it began

    async def count(self, window: Window, amount: int) -> bool:
        """Count a request or tokens; False where they are too many."""
        self.standings.append(window)
        if not await window.take(amount):
            return False
        if window.standing().measure == "tokens":
            self._tokens.append((window, window.start, amount))
        else:
            self._requests.append((window, window.start))
        return True

    async def enter(self, slots: Slots) -> bool:
        """Take a place until the end; False where there is none."""
        if not await slots.enter():
            return False
        self._slots.append(slots)
        return True


class RateGate:
    """Lets requests through, or refuses them by the limits of their account."""

    def __init__(self, db: Database, aliases: Aliases) -> None:
        self._db = db
        self._aliases = aliases
        self._process = ids.new_uuid()
        self._seen = NEVER + OVERLAP
        self._limits: dict[str, dict[str, RateLimit]] = {}
        """By account and id: the limits that hold."""
        self._windows: dict[tuple[str, str], Window] = {}
        self._slots: dict[str, Slots] = {}

    async def refresh(self) -> None:
        """Read what changed, and say which places are still used."""
        for limit in await read_limits(self._db, self._seen - OVERLAP):
            self._seen = max(self._seen, limit.changed_at)
            self._learn(limit)
        for slots in list(self._slots.values()):
            await slots.keep()

    async def stop(self) -> None:
        """Give all places back."""
        for window in self._windows.values():
            await window.stop()
        if self._slots:
            with suppress(AppError):
                await drop_slots(self._db, sorted(self._slots), self._process)

    def limits(self, who: Principal, model: str | None) -> bool:
        """Whether anything limits this caller with this model: where nothing does, nothing need be counted."""
        model = self._real(who, model)
        found = self._limits.get(who.account)
        return found is not None and any(limit.binds(who.key, model) for limit in found.values())

    def _real(self, who: Principal, model: str | None) -> str | None:
        """The model that is asked for, whatever it is called."""
        return None if model is None else self._aliases.named(who.account, model)

    async def admit(
        self, who: Principal, model: str | None, *, tokens: int | None = None, stays: bool = False
    ) -> Admission:
        """Count a request, its tokens where it has any, and where it stays a place until it ends.

        Raises `RateLimited`, and then counts nothing.
        """
        model, admission = self._real(who, model), Admission()
        for limit in list(self._limits.get(who.account, {}).values()):
            if not limit.binds(who.key, model):
                continue
            refusal = await self._count(admission, limit, tokens, stays=stays)
            if refusal is not None:
                admission.undo()
                raise refusal
        return admission

    async def _count(
        self, admission: Admission, limit: RateLimit, tokens: int | None, *, stays: bool
    ) -> RateLimited | None:
        if limit.concurrency is not None and stays and not await admission.enter(self._places(limit)):
            message = f"The rate limit {limit.id} allows {limit.concurrency} requests at once."
            return RateLimited(message, limit=limit.id, headers={"Retry-After": "1"} | admission.headers)
        wanted = (("requests", limit.requests_per_minute, 1), ("tokens", limit.tokens_per_minute, tokens))
        for measure, most, amount in wanted:
            if most is None or amount is None:
                continue
            window = self._window(limit.id, measure, most)
            if not await admission.count(window, amount):
                left = window.standing()
                asked = f"; this one may take {amount}" if measure == "tokens" else ""
                return RateLimited(
                    f"The rate limit {limit.id} allows {most} {measure} a minute, of which {left.remaining} are left"
                    f"{asked}. The next minute begins in {left.reset_seconds} s.",
                    limit=limit.id,
                    headers={"Retry-After": str(left.reset_seconds)} | admission.headers,
                )
        return None

    def _learn(self, limit: RateLimit) -> None:
        of_account = self._limits.setdefault(limit.account, {})
        if limit.ended_at is None:
            of_account[limit.id] = limit
            return
        of_account.pop(limit.id, None)
        for measure in ("requests", "tokens"):
            self._windows.pop((limit.id, measure), None)
        if not of_account:
            del self._limits[limit.account]

    def _window(self, limit: str, measure: str, most: int) -> Window:
        found = self._windows.get((limit, measure))
        if found is None:
            found = self._windows[limit, measure] = Window(self._db, limit, measure, most)
        return found

    def _places(self, limit: RateLimit) -> Slots:
        found = self._slots.get(limit.id)
        if found is None:
            found = self._slots[limit.id] = Slots(self._db, self._process, limit.id, limit.concurrency or 0)
        return found

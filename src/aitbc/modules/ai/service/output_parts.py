"""The parts of outputs that miners stream.

Sent on to who follows the job, stored a moment later with what came meanwhile, and all that is paid for after a stop.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog
from msgspec import structs

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.modules.ai.api import LeaseLost, ManyPartsKept, NotToldInParts, Parts, PartsKept, PartsTooLarge
from aitbc.modules.ai.batched.parts import KeptParts, keep_parts
from aitbc.modules.ai.batched.tails import BATCH_MAX, READ_PARTS, Piece, Tail, read_tails
from aitbc.modules.ai.models.values import StoredPart
from aitbc.modules.ai.service.current_leases import CurrentLease
from aitbc.modules.ai.service.live_parts import LiveParts
from aitbc.modules.ai.service.wakeups import Wakeups

LIVE = "live"
LOST = "lost"
STORE_SECONDS = 0.25
"""How long parts that may wait are gathered: a transaction for all of them costs as much as one for few."""

READ_TEXT = "SELECT string_agg(text, '' ORDER BY sequence) FROM ai.parts WHERE job = $1 AND token = $2"

log = structlog.get_logger("aitbc.ai")


class OutputParts:
    """Stores parts and reads them."""

    def __init__(self, db: Database, wakeups: Wakeups) -> None:
        self._db = db
        self._wakeups = wakeups
        self.live = LiveParts()
        self._tails: Batcher[Tail, list[Piece]] = Batcher(partial(read_tails, db, READ_PARTS), batch_max=BATCH_MAX)
        self._keeps: Batcher[Parts, KeptParts] = Batcher(lambda batch: retry(lambda: keep_parts(db, batch)))
        self._unstored: dict[str, Parts] = {}
        """By attempt: what was handed on and is not stored yet."""
        self._storing: asyncio.Task[None] | None = None

    async def keep(self, sent: Parts) -> PartsKept:
        """Keep pieces of an output while it is made, and answer whether to go on; without a piece it is only the
        question, which is answered once all that came before is stored.

        A piece that is kept already is passed over, one after a gap is left for another time. Raises `LeaseLost`,
        `NotToldInParts`, `PartsTooLarge`.
        """
        at_once = self._take(sent)
        return await self._store(sent) if at_once is None else at_once

    async def keep_all(self, sent: Sequence[Parts]) -> list[ManyPartsKept]:
        """The same for what a miner has of several outputs: all is handed on before any of it is stored."""
        answers: list[ManyPartsKept | None] = []
        for one in sent:
            taken = self._take(one)
            answers.append(None if taken is None else _as_one_of_many(taken))
        waiting = [place for place, answer in enumerate(answers) if answer is None]
        if waiting:
            stored = await asyncio.gather(*(self._store_or_refuse(sent[place]) for place in waiting))
            for place, answer in zip(waiting, stored, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _take(self, sent: Parts) -> PartsKept | None:
        """Hand pieces on; the answer, where they may be stored later."""
        self._wakeups.presence.note_heard(sent.miner)
        lease = self._hand_on(sent)
        if lease is None or lease.kept == 0 or not sent.may_wait:
            return None
        self._store_soon(sent)
        return PartsKept(status=LIVE, kept=lease.kept, heard=self.live.last(lease.job, lease.token))

    async def _store_or_refuse(self, sent: Parts) -> ManyPartsKept:
        try:
            return _as_one_of_many(await self._store(sent))
        except LeaseLost as error:
            return ManyPartsKept(status=LOST, kept=0, heard=0, refused=error.code)
        except (NotToldInParts, PartsTooLarge) as error:
            return ManyPartsKept(status=LIVE, kept=0, heard=0, refused=error.code)

    async def store_before_end(self, *jobs: str) -> None:
        """Store what was handed on of jobs that are about to be ended; from now on their parts are stored first."""
        if self._unstored:
            await self.store_all()
        for job in jobs:
            self._wakeups.current.drop_job(job)

    async def store_all(self) -> None:
        """Store at once what was handed on."""
        waiting, self._unstored = self._unstored, {}
        for problem in await asyncio.gather(*map(self._store, waiting.values()), return_exceptions=True):
            if isinstance(problem, BaseException) and not isinstance(problem, AppError):
                log.error("parts_not_stored", exc_info=problem)  # their miner still has them, and sends them again

    async def stop(self) -> None:
        """Store what waits, and gather no more."""
        if self._storing is not None:
            await cancel_and_wait([self._storing])
        await self.store_all()

    def _store_soon(self, sent: Parts) -> None:
        waiting = self._unstored.get(sent.attempt)
        self._unstored[sent.attempt] = _joined(waiting, sent)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_behind())

    async def _store_behind(self) -> None:
        while self._unstored:
            await asyncio.sleep(STORE_SECONDS)
            await self.store_all()

    async def _store(self, sent: Parts) -> PartsKept:
        """Store what an attempt sent, after what it sent before."""
        sent = _joined(self._unstored.pop(sent.attempt, None), sent)
        try:
            kept = await self._keeps.do(sent)
        except AppError:
            self._wakeups.current.drop(sent.attempt)
            raise
        if kept.fresh:
            self.live.add(kept.job, kept.token, kept.fresh)
        if kept.answer.status == LIVE:
            lease = CurrentLease(sent.miner, kept.job, kept.token, kept.answer.kept)
            self._wakeups.current.note(sent.attempt, lease)
        else:
            self._wakeups.current.drop(sent.attempt)
        if kept.is_first_sign:
            self._wakeups.watched.notify([kept.job])
        return kept.answer

    def _hand_on(self, sent: Parts) -> CurrentLease | None:
        """Hand pieces on before they are stored, where their lease is known here; it, if they follow on what came.

        Their miner keeps them until it hears that they are stored: after a crash it sends them again.
        """
        lease = self._wakeups.current.find(sent.attempt, sent.miner, sent.token)
        if lease is None or not sent.parts:
            return None
        at, following = now(), self.live.last(lease.job, lease.token) + 1
        fresh: list[StoredPart] = []
        for part in sent.parts:
            if part.sequence == following:
                fresh.append(StoredPart(attempt=lease.token, sequence=part.sequence, at=at, text=part.text))
                following += 1
        if fresh:
            self.live.add(lease.job, lease.token, fresh)
        return lease if sent.parts[-1].sequence < following else None

    async def text_of(self, job: str, token: int) -> str:
        """The text that an attempt has sent so far."""
        if self._unstored:
            await self.store_all()
        async with self._db.raw() as connection:
            text = await connection.fetchval(READ_TEXT, ids.decode("job", job), token)
        return "" if text is None else str(text)

    async def after(self, job: str, token: int, sequence: int) -> Sequence[StoredPart]:
        """The parts of an attempt in order, those after a sequence; up to `PIECES_MAX` of them."""
        pieces = await self._tails.do(Tail(job, token, sequence))
        return [StoredPart(attempt=token, sequence=piece.sequence, at=piece.at, text=piece.text) for piece in pieces]


def _as_one_of_many(kept: PartsKept) -> ManyPartsKept:
    return ManyPartsKept(status=kept.status, kept=kept.kept, heard=kept.heard)


def _joined(before: Parts | None, sent: Parts) -> Parts:
    """What one attempt sent in turn, each piece once; under another token it is another's."""
    if before is None or (before.miner, before.token) != (sent.miner, sent.token):
        return sent
    known = {part.sequence for part in before.parts}
    fresh = tuple(part for part in sent.parts if part.sequence not in known)
    return structs.replace(sent, parts=before.parts + fresh)

"""The parts of outputs that miners stream.

Stored, sent on to who follows the job, and all that is paid for after a stop.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import select

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import LeaseLost, NotToldInParts, Part, Parts, PartsKept, PartsTooLarge
from aitbc.modules.ai.batched.renew import status_of
from aitbc.modules.ai.batched.tails import BATCH_MAX, READ_PARTS, Piece, Tail, read_tails
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import show_sign
from aitbc.modules.ai.models.tables import AttemptRow, PartRow
from aitbc.modules.ai.models.values import StoredPart
from aitbc.modules.ai.service.live_parts import LiveParts
from aitbc.modules.ai.service.rows import attempt_value, lock_lease
from aitbc.modules.ai.service.waiters import WatchedJobs

PARTS_MAX = 100_000
PARTS_BYTES_MAX = 2 * 1024 * 1024
"""What the parts of one attempt may weigh together."""


class OutputParts:
    """Stores parts and reads them."""

    def __init__(self, db: Database, watched: WatchedJobs) -> None:
        self._db = db
        self._watched = watched
        self.live = LiveParts()
        self._tails: Batcher[Tail, list[Piece]] = Batcher(partial(read_tails, db, READ_PARTS), batch_max=BATCH_MAX)

    @retrying
    async def keep(self, sent: Parts) -> PartsKept:
        """Store pieces of an output while it is made, and answer whether to go on; without a piece it is only the
        question.

        A piece that is kept already is passed over, one after a gap is left for another time. Raises `LeaseLost`,
        `NotToldInParts`, `PartsTooLarge`.
        """
        fresh: list[StoredPart] = []
        async with self._db.unit_of_work() as uow:
            attempt, is_changed = await _lock(uow, sent)
            status = status_of(attempt_value(attempt), sent.miner, sent.token).status
            last = await _last(uow, attempt)
            kept = last.sequence if last is not None else 0
            if sent.parts and not KINDS[attempt.kind].streams:
                raise NotToldInParts
            if status == "live":
                fresh = _keep(uow, attempt, last, sent.parts)
                kept += len(fresh)
        if fresh:
            self.live.add(attempt.job, attempt.token, fresh)
        if is_changed:
            self._watched.notify([attempt.job])
        return PartsKept(status=status, kept=kept)

    async def text_of(self, job: str, token: int) -> str:
        """The text that an attempt has sent so far."""
        query = select(PartRow.text).where(PartRow.job == job, PartRow.token == token).order_by(PartRow.sequence)
        async with self._db.reading() as session:
            return "".join(await session.scalars(query))

    async def after(self, job: str, token: int, sequence: int) -> Sequence[StoredPart]:
        """The parts of an attempt in order, those after a sequence; up to `PIECES_MAX` of them."""
        pieces = await self._tails.do(Tail(job, token, sequence))
        return [StoredPart(attempt=token, sequence=piece.sequence, at=piece.at, text=piece.text) for piece in pieces]


async def _lock(uow: UnitOfWork, sent: Parts) -> tuple[AttemptRow, bool]:
    """The attempt, locked; with its job where this is the first sign of work. Whether it was. Raises `LeaseLost`."""
    if not ids.is_id("att", sent.attempt):
        raise LeaseLost
    fields = select(AttemptRow.miner, AttemptRow.token, AttemptRow.running_at).where(AttemptRow.id == sent.attempt)
    found = (await uow.session.execute(fields)).one_or_none()
    if found is None or (found.miner, found.token) != (sent.miner, sent.token):
        raise LeaseLost
    if found.running_at is not None:
        return await uow.find(AttemptRow, sent.attempt, lock=True), False
    job, attempt = await lock_lease(uow, sent.attempt)
    is_first = attempt.ended is None and attempt.running_at is None
    if is_first:
        show_sign(job, attempt, at=now())
    return attempt, is_first


async def _last(uow: UnitOfWork, attempt: AttemptRow) -> PartRow | None:
    query = select(PartRow).where(PartRow.job == attempt.job, PartRow.token == attempt.token)
    return (await uow.session.scalars(query.order_by(PartRow.sequence.desc()).limit(1))).one_or_none()


def _keep(uow: UnitOfWork, attempt: AttemptRow, last: PartRow | None, parts: Sequence[Part]) -> list[StoredPart]:
    """Add the parts that follow on what is kept; returns those. Raises `PartsTooLarge`."""
    fresh: list[StoredPart] = []
    kept = last.sequence if last is not None else 0
    weight = last.bytes if last is not None else 0
    at = now()
    for part in sorted(parts, key=lambda part: part.sequence):
        if part.sequence != kept + 1:
            continue
        kept, weight = part.sequence, weight + len(part.text.encode())
        if kept > PARTS_MAX or weight > PARTS_BYTES_MAX:
            raise PartsTooLarge(parts_max=PARTS_MAX, bytes_max=PARTS_BYTES_MAX)
        uow.add(PartRow(job=attempt.job, token=attempt.token, sequence=kept, at=at, text=part.text, bytes=weight))
        fresh.append(StoredPart(attempt=attempt.token, sequence=kept, at=at, text=part.text))
    return fresh

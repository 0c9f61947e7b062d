"""The parts of outputs that miners stream.

Stored, sent on to who follows the job, and all that is paid for after a stop.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import select

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import Parts, PartsKept
from aitbc.modules.ai.batched.parts import KeptParts, keep_parts
from aitbc.modules.ai.batched.tails import BATCH_MAX, READ_PARTS, Piece, Tail, read_tails
from aitbc.modules.ai.models.tables import PartRow
from aitbc.modules.ai.models.values import StoredPart
from aitbc.modules.ai.service.current_leases import CurrentLease
from aitbc.modules.ai.service.live_parts import LiveParts
from aitbc.modules.ai.service.wakeups import Wakeups

LIVE = "live"


class OutputParts:
    """Stores parts and reads them."""

    def __init__(self, db: Database, wakeups: Wakeups) -> None:
        self._db = db
        self._wakeups = wakeups
        self.live = LiveParts()
        self._tails: Batcher[Tail, list[Piece]] = Batcher(partial(read_tails, db, READ_PARTS), batch_max=BATCH_MAX)
        self._keeps: Batcher[Parts, KeptParts] = Batcher(lambda batch: retry(lambda: keep_parts(db, batch)))

    async def keep(self, sent: Parts) -> PartsKept:
        """Store pieces of an output while it is made, and answer whether to go on; without a piece it is only the
        question.

        A piece that is kept already is passed over, one after a gap is left for another time. Raises `LeaseLost`,
        `NotToldInParts`, `PartsTooLarge`.
        """
        self._wakeups.presence.note_heard(sent.miner)
        self._hand_on(sent)
        try:
            kept = await self._keeps.do(sent)
        except AppError:
            self._wakeups.current.drop(sent.attempt)
            raise
        if kept.fresh:
            self.live.add(kept.job, kept.token, kept.fresh)
        if kept.answer.status == LIVE:
            self._wakeups.current.note(sent.attempt, CurrentLease(sent.miner, kept.job, kept.token))
        else:
            self._wakeups.current.drop(sent.attempt)
        if kept.is_first_sign:
            self._wakeups.watched.notify([kept.job])
        return kept.answer

    def _hand_on(self, sent: Parts) -> None:
        """Hand pieces on before they are stored, where their lease is known here and they follow on what came.

        Their miner keeps them until it hears that they are stored: after a crash it sends them again.
        """
        lease = self._wakeups.current.find(sent.attempt, sent.miner, sent.token)
        if lease is None or not sent.parts:
            return
        at, following = now(), self.live.last(lease.job, lease.token) + 1
        fresh: list[StoredPart] = []
        for part in sent.parts:
            if part.sequence == following:
                fresh.append(StoredPart(attempt=lease.token, sequence=part.sequence, at=at, text=part.text))
                following += 1
        if fresh:
            self.live.add(lease.job, lease.token, fresh)

    async def text_of(self, job: str, token: int) -> str:
        """The text that an attempt has sent so far."""
        query = select(PartRow.text).where(PartRow.job == job, PartRow.token == token).order_by(PartRow.sequence)
        async with self._db.reading() as session:
            return "".join(await session.scalars(query))

    async def after(self, job: str, token: int, sequence: int) -> Sequence[StoredPart]:
        """The parts of an attempt in order, those after a sequence; up to `PIECES_MAX` of them."""
        pieces = await self._tails.do(Tail(job, token, sequence))
        return [StoredPart(attempt=token, sequence=piece.sequence, at=piece.at, text=piece.text) for piece in pieces]

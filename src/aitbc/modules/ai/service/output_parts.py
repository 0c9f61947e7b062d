"""The parts of outputs that miners stream.

Stored, sent on to who follows the job, and all that is paid for after a stop.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import select

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.modules.ai.api import Parts, PartsKept
from aitbc.modules.ai.batched.parts import KeptParts, keep_parts
from aitbc.modules.ai.batched.tails import BATCH_MAX, READ_PARTS, Piece, Tail, read_tails
from aitbc.modules.ai.models.tables import PartRow
from aitbc.modules.ai.models.values import StoredPart
from aitbc.modules.ai.service.live_parts import LiveParts
from aitbc.modules.ai.service.wakeups import Wakeups


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
        kept = await self._keeps.do(sent)
        if kept.fresh:
            self.live.add(kept.job, kept.token, kept.fresh)
        if kept.is_first_sign:
            self._wakeups.watched.notify([kept.job])
        return kept.answer

    async def text_of(self, job: str, token: int) -> str:
        """The text that an attempt has sent so far."""
        query = select(PartRow.text).where(PartRow.job == job, PartRow.token == token).order_by(PartRow.sequence)
        async with self._db.reading() as session:
            return "".join(await session.scalars(query))

    async def after(self, job: str, token: int, sequence: int) -> Sequence[StoredPart]:
        """The parts of an attempt in order, those after a sequence; up to `PIECES_MAX` of them."""
        pieces = await self._tails.do(Tail(job, token, sequence))
        return [StoredPart(attempt=token, sequence=piece.sequence, at=piece.at, text=piece.text) for piece in pieces]

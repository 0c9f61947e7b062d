"""The poll contexts of many miners in one read."""

from collections.abc import Sequence
from typing import Any

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.models.reputation import UNKNOWN, Score
from aitbc.modules.gpu.models.values import PollContext

# By hand: it is read from three tables. All that a poll or a result needs to know of its miner.
READ_POLL_CONTEXTS = """
SELECT m.id, m.account, m.public_key, m.status, m.status_reason, m.slots, m.booking, m.booker, p.capabilities, p.shown,
    r.score, r.good, r.bad
FROM gpu.miners m JOIN gpu.profiles p ON p.miner = m.id LEFT JOIN gpu.reputations r ON r.miner = m.id
WHERE m.id = ANY($1::uuid[])"""


async def read_poll_contexts(database: Database, miners: Sequence[str]) -> list[PollContext | AppError]:
    """The poll contexts of miners, by well-formed ids."""
    async with database.raw() as connection:
        records = await connection.fetch(READ_POLL_CONTEXTS, [ids.decode("mnr", miner) for miner in set(miners)])
    found = {record["id"]: _poll_context(record) for record in records}
    return [found.get(ids.decode("mnr", miner)) or MinerNotFound() for miner in miners]


def _poll_context(record: Any) -> PollContext:
    score = UNKNOWN if record["score"] is None else Score(record["score"], record["good"], record["bad"])
    return PollContext(
        id=ids.encode("mnr", record["id"]),
        account=ids.encode("acct", record["account"]),
        public_key=record["public_key"],
        status=record["status"],
        reason=record["status_reason"],
        slots=record["slots"],
        capabilities=record["capabilities"],
        shown=record["shown"],
        score=score,
        **_booked(record),
    )


def _booked(record: Any) -> dict[str, str]:
    """The booking that a miner is in; nothing, nearly always."""
    if record["booking"] is None:
        return {}
    return {"booking": ids.encode("book", record["booking"]), "booker": ids.encode("acct", record["booker"])}

"""Attempts that ended, and the reputations that they amount to, of many miners in one transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

from aitbc.kernel.database.bulk import BulkTable
from aitbc.kernel.database.unit_of_work import Connection
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.models.reputation import PRIOR, Tally, score, tally
from aitbc.modules.gpu.models.tables import ReputationEventRow

# In the order of attempts, as all event handlers keep them.
KEEP_ATTEMPTS = BulkTable(ReputationEventRow, AttemptEnded, unmapped=("heard_at",)).insert(
    constants={"heard_at": ":heard_at"}, suffix="ON CONFLICT DO NOTHING RETURNING attempt"
)

# By hand, like the three below: they write sums, which no struct carries. A reputation that is there is locked and stays as
# it is: event handlers take turns.
LOCK_SCORES = """
INSERT INTO gpu.reputations AS r (miner, score, good, bad, updated_at)
SELECT miner, $2, 0, 0, $3 FROM unnest($1::uuid[]) AS miner
ON CONFLICT (miner) DO UPDATE SET score = r.score WHERE false"""

READ_DAYS = "SELECT miner, day, good, bad FROM gpu.reputation_days WHERE miner = ANY($1::uuid[])"

SAVE_DAYS = """
INSERT INTO gpu.reputation_days (miner, day, good, bad)
SELECT * FROM unnest($1::uuid[], $2::date[], $3::int[], $4::int[])
ON CONFLICT (miner, day) DO UPDATE SET good = excluded.good, bad = excluded.bad"""

SAVE_SCORES = """
UPDATE gpu.reputations r SET score = v.score, good = v.good, bad = v.bad, updated_at = $5
FROM unnest($1::uuid[], $2::float8[], $3::int[], $4::int[]) AS v(miner, score, good, bad) WHERE r.miner = v.miner"""


async def record_ended_attempts(connection: Connection, events: Sequence[AttemptEnded]) -> None:
    """Keep attempts that ended, each once, and bring the reputations of their miners up to them."""
    ended = {ids.decode("att", event.attempt): event for event in events}
    rows = [ended[attempt] for attempt in sorted(ended)]
    kept = await connection.fetch(KEEP_ATTEMPTS.sql, *KEEP_ATTEMPTS.arrays(rows), now())
    by_miner: dict[UUID, list[AttemptEnded]] = defaultdict(list)
    for row in kept:
        event = ended[row["attempt"]]
        if not event.is_own_work:
            by_miner[ids.decode("mnr", event.miner)].append(event)
    added = {
        miner: days
        for miner, attempts in sorted(
            by_miner.items()
        )  # in one order, so that two event handlers never wait in a circle
        if (days := tally((event.ended_at, event.outcome, event.fault, event.reason) for event in attempts))
    }
    if added:
        await _update_scores(connection, added)


async def _update_scores(connection: Connection, added: Mapping[UUID, Mapping[date, Tally]]) -> None:
    """Add to the days of miners, and store what they amount to."""
    miners, at = list(added), now()
    await connection.execute(LOCK_SCORES, miners, PRIOR, at)
    days: dict[UUID, dict[date, Tally]] = {miner: {} for miner in miners}
    for miner, day, good, bad in await connection.fetch(READ_DAYS, miners):
        days[miner][day] = Tally(good, bad)
    changed: list[tuple[UUID, date, Tally]] = []
    for miner, news in added.items():
        for day, one in news.items():
            before = days[miner].get(day, Tally())
            days[miner][day] = Tally(before.good + one.good, before.bad + one.bad)
            changed.append((miner, day, days[miner][day]))
    scores = [score(days[miner]) for miner in miners]
    writes = WriteBatch()
    writes.add(
        SAVE_DAYS,
        [miner for miner, _, _ in changed],
        [day for _, day, _ in changed],
        [one.good for _, _, one in changed],
        [one.bad for _, _, one in changed],
    )
    writes.add(
        SAVE_SCORES,
        miners,
        [one.value for one in scores],
        [one.good for one in scores],
        [one.bad for one in scores],
        at,
    )
    await writes.do(connection)

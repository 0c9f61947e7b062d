"""How many open jobs each account has: what was submitted less what has ended, in the transactions of both.

By hand: what is written are sums, which no struct carries.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from aitbc.kernel.database.unit_of_work import Connection
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.models.values import JobValue

# Rows are taken in the order of accounts, and last of all locks, so that none waits in a circle.
COUNT_ENDED = """
INSERT INTO ai.job_counts AS c (account, ended, jobs)
SELECT v.account, true, v.jobs FROM unnest($1::uuid[], $2::int8[]) AS v(account, jobs)
ON CONFLICT (account, ended) DO UPDATE SET jobs = c.jobs + excluded.jobs"""

# What has ended is read beside the lock, not under it: what is being written now counts as open still.
COUNT_SUBMITTED = """
INSERT INTO ai.job_counts AS c (account, ended, jobs)
SELECT v.account, false, v.jobs FROM unnest($1::uuid[], $2::int8[]) AS v(account, jobs)
ON CONFLICT (account, ended) DO UPDATE SET jobs = c.jobs + excluded.jobs
RETURNING account,
    jobs - coalesce((SELECT e.jobs FROM ai.job_counts e WHERE e.account = c.account AND e.ended), 0) AS open"""


def submitted_columns(jobs: Iterable[JobValue]) -> tuple[list[UUID], list[int]]:
    """The parameters of `COUNT_SUBMITTED` for new jobs."""
    return _columns(Counter(job.account for job in jobs))


async def refuse_excess(
    connection: Connection, jobs: Sequence[JobValue], open_jobs: Mapping[UUID, int], *, open_max: int
) -> dict[str, int]:
    """Count new jobs no longer, by account those for which `open_max` open ones leave no room; returns how many.

    They are counted in `open_jobs`.
    """
    wanted = Counter(job.account for job in jobs)
    excess = {ids.encode("acct", account): count - open_max for account, count in open_jobs.items() if count > open_max}
    excess = {account: min(count, wanted[account]) for account, count in excess.items()}
    if excess:
        await connection.execute(COUNT_SUBMITTED, *_columns({account: -count for account, count in excess.items()}))
    return excess


def count_ended(writes: WriteBatch, jobs: Iterable[JobValue]) -> None:
    """Count jobs that have just ended."""
    if counts := Counter(job.account for job in jobs):
        writes.add(COUNT_ENDED, *_columns(counts))


def _columns(counts: dict[str, int]) -> tuple[list[UUID], list[int]]:
    accounts = sorted(counts)
    return [ids.decode("acct", account) for account in accounts], [counts[account] for account in accounts]

"""Lists of jobs by state, kind and time, from the newest on."""

from datetime import datetime

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.times import time_of
from aitbc.modules.ai.api import Job
from aitbc.modules.ai.legacy.shapes import STATES
from aitbc.modules.ai.service import AiService

PAGE = 500


async def list_jobs(
    ai: AiService,
    who: Principal,
    *,
    limit: int,
    state: str | None = None,
    kind: str | None = None,
    since: str | None = None,
    until: str | None = None,
    offset: int = 0,
) -> list[Job]:
    """The caller's jobs, everybody's for an operator; `state` is a legacy word. Raises `Invalid` for it or a time."""
    states = (None,) if state is None else STATES.known_states(state, "?state")
    first, last = time_of(since, "from_time"), time_of(until, "to_time")
    found: list[Job] = []
    for one in states:
        found += await _read(ai, who, state=one, kind=kind, first=first, last=last, count=offset + limit)
    found.sort(key=lambda job: job.id, reverse=True)
    return found[offset : offset + limit]


async def _read(
    ai: AiService,
    who: Principal,
    *,
    state: str | None,
    kind: str | None,
    first: datetime | None,
    last: datetime | None,
    count: int,
) -> list[Job]:
    found: list[Job] = []
    after = None
    while len(found) < count:
        page = await ai.jobs.page(who, state=state, kind=kind, after=after, limit=PAGE)
        found += [
            job
            for job in page
            if (last is None or job.created_at <= last) and (first is None or job.created_at >= first)
        ]
        if len(page) < PAGE or (first is not None and page[-1].created_at < first):
            break
        after = page[-1].id
    return found[:count]

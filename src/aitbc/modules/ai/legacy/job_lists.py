"""Lists of jobs by state, type of task and time, from the newest on."""

from collections.abc import Sequence

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.times import time_of
from aitbc.modules.ai.legacy.shapes import STATES
from aitbc.modules.ai.legacy.tasks import known_kind
from aitbc.modules.ai.service import AiService
from aitbc.modules.ai.service.jobs import JobFilter, OwnedJob


async def list_jobs(
    ai: AiService,
    who: Principal,
    *,
    limit: int,
    state: str | None = None,
    task: str | None = None,
    since: str | None = None,
    until: str | None = None,
    offset: int = 0,
) -> Sequence[OwnedJob]:
    """The caller's jobs, everybody's for an operator; `state` and `task` are legacy words.

    Raises `UnknownTask`, and `Invalid` for an unknown state or what is no time.
    """
    wanted = JobFilter(
        states=None if state is None else STATES.known_states(state, "?state"),
        kind=None if task is None else known_kind(task),
        since=time_of(since, "from_time"),
        until=time_of(until, "to_time"),
        offset=offset,
        limit=limit,
    )
    return await ai.jobs.owned_page(who, wanted)

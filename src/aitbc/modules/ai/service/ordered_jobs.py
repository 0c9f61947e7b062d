"""Jobs that a module above submits, reads and cancels in the name of an account that asked it to."""

import hashlib
from collections.abc import Sequence

from msgspec import structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.api import Clocks, Job, JobDetail, SubmitFor
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.models.queue import AgreedAsk
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.ai.service.submissions import Submissions

LEAST = "0.00000001"
"""A limit that stands for none until the job is quoted."""


class OrderedJobs:
    """Submits, reads and cancels jobs for another module."""

    def __init__(self, submissions: Submissions, jobs: Jobs, stops: Stops) -> None:
        self._submissions = submissions
        self._jobs = jobs
        self._stops = stops

    async def submit(self, order: SubmitFor) -> Job:
        """Submit a job, once for each request key."""
        command = SubmitJob(
            kind=order.kind,
            input=order.input,
            max_price=order.max_price or LEAST,
            clocks=Clocks(queue_seconds=order.queue_seconds),
        )
        told = structs.astuple(order)
        told = told[:-1] if order.agreed is None else told
        fingerprint = hashlib.sha256(repr(told).encode()).digest()
        once = IdempotencyKey(order.account, order.request_key, fingerprint)
        who = _who(order.account, order.key)
        if order.max_price is None:
            return await self._submissions.submit_quoted(who, command, once)
        if order.agreed is None:
            return await self._submissions.submit(who, command, once)
        ask = AgreedAsk(order.agreed.unit_price_units, order.agreed.offer)
        return await self._submissions.submit(who, command, once, only_miner=order.agreed.miner, agreed=ask)

    async def recent(self, account: str, limit: int) -> Sequence[Job]:
        """The jobs of an account from the newest on."""
        return await self._jobs.page(_who(account, ""), state=None, kind=None, after=None, limit=limit)

    async def get(self, account: str, job: str) -> JobDetail:
        """A job of an account with its output. Raises `JobNotFound`."""
        return await self._jobs.get(_who(account, ""), job)

    async def cancel(self, account: str, key: str, job: str) -> Job:
        """Cancel a job of an account; one that has ended stays as it is. Raises `JobNotFound`."""
        who = _who(account, key)
        try:
            return await self._stops.cancel(who, job, IdempotencyKey.NONE)
        except IllegalMove:
            return await self._jobs.get(who, job)


def _who(account: str, key: str) -> Principal:
    return Principal(account, key, "live", frozenset())

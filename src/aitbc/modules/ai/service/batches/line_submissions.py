"""A line's request as a job: for as much as it can cost, off peak, with the model that was chosen where it leaves that
to the platform.
"""

from datetime import datetime

from msgspec import structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Clocks, Job
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.auto_models import WORDS, AutoModels
from aitbc.modules.ai.service.batches.formats import LineWork
from aitbc.modules.ai.service.submissions import Submissions

RUN_SECONDS = 900


class LineSubmissions:
    """Submits the jobs of lines, each once."""

    def __init__(self, submissions: Submissions, auto_models: AutoModels) -> None:
        self._submissions = submissions
        self._auto_models = auto_models

    async def submitted(self, once: IdempotencyKey) -> Job | None:
        """The job that was submitted under this key, by whichever process."""
        return await self._submissions.submitted(once)

    async def submit(self, who: Principal, work: LineWork, once: IdempotencyKey, *, until: datetime) -> Job:
        """Submit what a line asks for; it may wait for a miner until its batch expires.

        Raises `UnknownModel`, and as a submission does.
        """
        seconds = int((until - now()).total_seconds())
        command = SubmitJob(
            kind=work.kind,
            input=(await self._routed(work)).input,
            max_price=money.render(money.LARGEST),
            priority=0,
            clocks=Clocks(queue_seconds=max(seconds, 1), run_seconds=RUN_SECONDS),
        )
        return await self._submissions.submit_off_peak(who, command, once)

    async def _routed(self, work: LineWork) -> LineWork:
        word = work.input.get("model")
        if work.kind != "chat" or word not in WORDS:
            return work
        choice = await self._auto_models.choose(word, work.input)
        return structs.replace(work, input=work.input | {"model": choice.taken.name})

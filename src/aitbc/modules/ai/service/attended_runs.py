"""Attended runs: jobs of the public protocols, from the request that is counted to the answer for its client."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.disconnect import Disconnect, cancel_on_disconnect
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.api import Job
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.rate_gate import Admission, RateGate
from aitbc.modules.ai.service.runs import DisconnectGuard, Runs
from aitbc.modules.ai.service.submissions import Submissions
from aitbc.modules.ai.service.text_runs import Ended, TextRuns, Told

BYTES_PER_TOKEN = 4
"""Of a prompt, as it is counted before its model has counted it."""


class AttendedRun:
    """One job whose client stays: its text, its end, and what is to be done when either goes."""

    def __init__(
        self, who: Principal, job: Job, text_runs: TextRuns, guards: tuple[DisconnectGuard, Admission]
    ) -> None:
        self._who = who
        self.job = job
        self._text_runs = text_runs
        self._guard, self._admission = guards

    @property
    def headers(self) -> dict[str, str]:
        """What an answer says of it: the job, and how the limits stand that bind its caller."""
        return {"x-aitbc-job": self.job.id} | self._admission.headers

    async def end(self, disconnect: Disconnect | None) -> Ended:
        """The job once it has ended; cancelled when its client leaves, and then the job is stopped."""
        try:
            cancel_on_disconnect(disconnect)
            ended = await self._text_runs.end_of(self._who, self.job.id)
            self._settle(ended)
            return ended
        finally:
            self.done()
            self._admission.release()

    async def text(self) -> AsyncGenerator[Told, None]:
        """The text of its output as it is made, and at last how it ended."""
        try:
            async with aclosing(self._text_runs.text_of(self._who, self.job.id)) as telling:
                async for told in telling:
                    if isinstance(told, Ended):
                        self._settle(told)
                    yield told
        finally:
            self._admission.release()

    def done(self) -> None:
        """The client has its answer: that it leaves means nothing any more."""
        self._guard.disarm()

    def _settle(self, ended: Ended) -> None:
        counted = ended.usage.get("prompt_tokens", 0) + ended.usage.get("completion_tokens", 0)
        self._admission.settle(counted or ended.usage.get("tokens", 0) or (ended.job.units or 0) // BYTES_PER_TOKEN)


class AttendedRuns:
    """Begins runs: counts them against the limits of their caller, submits their jobs, and watches their clients."""

    def __init__(self, submissions: Submissions, runs: Runs, text_runs: TextRuns, gate: RateGate) -> None:
        self._submissions = submissions
        self._runs = runs
        self._text_runs = text_runs
        self._gate = gate

    async def begin(
        self,
        who: Principal,
        command: SubmitJob,
        once: IdempotencyKey,
        disconnect: Disconnect | None,
        *,
        shortens: bool = False,
    ) -> AttendedRun:
        """Submit a job for the most that it can cost. Raises `RateLimited`, and as `submit_quoted` does."""
        admission = await self._admit(who, command.input)
        try:
            job = await self._submissions.submit_quoted(who, command, once, shortens=shortens)
        except BaseException:
            admission.undo()
            raise
        guard = self._runs.guard(who, job, disconnect, "stop")
        return AttendedRun(who, job, self._text_runs, (guard, admission))

    async def _admit(self, who: Principal, work: Mapping[str, Any]) -> Admission:
        model = work.get("model")
        if not self._gate.limits(who, model):
            return Admission()
        longest = work.get("max_tokens", 0) * (work.get("n") or 1)
        tokens = len(msgspec.json.encode(work)) // BYTES_PER_TOKEN + longest
        return await self._gate.admit(who, model, tokens=tokens, stays=True)

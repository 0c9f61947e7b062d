"""Evaluations: a trusted miner is given the answer of a chat, and says how likely it finds some of its tokens."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import structs
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.api import CheckedToken, Lease, LeaseCheck
from aitbc.modules.ai.models.checks.likelihoods import Finding, Measured, chosen, judge, measure, recent_of, tokens_in
from aitbc.modules.ai.models.checks.tiers import is_greedy
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.tables import DeliveryRow, JobRow, TrackRecordRow
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.service.verification import Given, Verification


class Agreement(NamedTuple):
    """How an answer compares with those before it."""

    attempts: list[str]
    """Those whose answers agree with it."""
    is_unclear: bool = False
    """Whether they agree only for want of evidence."""
    measured: Measured | None = None
    """What the evaluation of the answer before it measured."""


class Evaluations:
    """Asks trusted miners to evaluate answers, and judges by what they find."""

    def __init__(self, db: Database, verification: Verification, tolerances: Mapping[str, float]) -> None:
        self._db = db
        self._verification = verification
        self._tolerances = tolerances
        self._random = random.SystemRandom()

    async def fill(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Leases with the answers that some of them are to evaluate; which tokens, nobody knows before."""
        jobs = {lease.job for lease in leases if lease.check is not None}
        wanted = select(DeliveryRow.job, DeliveryRow.attempt, DeliveryRow.output, DeliveryRow.miner)
        async with self._db.reading() as session:
            rows = await session.execute(wanted.where(DeliveryRow.job.in_(jobs)))
            given = {row.job: Given(row.attempt, row.output, row.miner) for row in rows}
        return [await self._filled(one, given.get(one.job)) if one.check is not None else one for one in leases]

    async def _filled(self, lease: Lease, given: Given | None) -> Lease:
        if given is None:  # the job has ended meanwhile: its miner is told when it renews
            return lease
        output = await self._read(given)
        text = output.message.content
        tokens = await asyncio.to_thread(tokens_in, text, output.logprobs)
        passes = self._tolerances.get(str(lease.input.get("model")), 0.0)
        check = LeaseCheck(text=text, tokens=chosen(tokens, self._draw), passes=passes)
        return structs.replace(lease, check=check)

    def _draw(self, among: int, wanted: int) -> list[int]:
        return self._random.sample(range(among), wanted)

    async def compare(self, job: JobValue, check: Given, answer: Given) -> Agreement:
        """Judge an answer by its evaluation. Raises `Unavailable` where one of them cannot be read now."""
        evaluation, output = await self._read(check), await self._read(answer)
        tokens: Sequence[CheckedToken] = await asyncio.to_thread(tokens_in, output.message.content, output.logprobs)
        async with self._db.reading() as session:
            given = await session.scalar(select(JobRow.input).where(JobRow.id == job.id))
            asked = KINDS["chat"].read(msgspec.json.decode(given or "{}"))
            record = await session.get(TrackRecordRow, (answer.miner, job.kind, asked.model or ""))
        measured = measure(tokens, evaluation.evaluation or (), is_greedy=is_greedy(asked))
        passes = self._tolerances.get(asked.model or "")
        if passes is None:
            raise Unavailable(f"The tolerance of {asked.model} is not set any more; an operator must restore it.")
        finding = judge(passes, measured, recent_of(record.recent if record is not None else ""))
        attempts = [] if finding is Finding.WRONG else [answer.attempt]
        return Agreement(attempts, finding is Finding.UNCLEAR, measured)

    async def _read(self, given: Given) -> ChatOutput:
        output = await self._verification.read_back(KINDS["chat"], given)
        assert isinstance(output, ChatOutput)
        return output

"""Verification: whether an output is what its job asked for, and whether a request is impossible as its miner says."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from aitbc.kernel.crypto.api_key import holds_key
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.api import ArtifactNotFound, Result
from aitbc.modules.ai.models.checks.likelihoods import require_evaluable
from aitbc.modules.ai.models.delivery import OutputRefused, judge
from aitbc.modules.ai.models.kinds.kind import Kind, Reference
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.values import AttemptValue, Delivered, JobValue
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.output_parts import OutputParts
from aitbc.modules.ai.service.speeds import Speeds


class Given(NamedTuple):
    """An output as it was delivered."""

    attempt: str
    output: str
    """JSON text."""
    miner: str
    """Whose it is."""


class Verification:
    """Checks what miners claim against what the platform has."""

    def __init__(self, jobs: Jobs, artifacts: Artifacts, output_parts: OutputParts, speeds: Speeds) -> None:
        self._jobs = jobs
        self._artifacts = artifacts
        self._output_parts = output_parts
        self._speeds = speeds

    async def judge(self, result: Result, text: str, job: JobValue, attempt: AttemptValue) -> Delivered:
        """Hold an output against its kind and its parts, meter it and price it. Raises `OutputRefused`."""
        value = result.output
        if holds_key(text):
            raise OutputRefused("an API key stands in it")
        if isinstance(value, dict) and "artifact" in value:
            value = await self._value_in(value, attempt.id)
        kind = KINDS[job.kind]
        streamed = await self._output_parts.text_of(job.id, attempt.token) if kind.streams else None
        is_evaluation = kind.is_evaluated and job.trusted_only
        ceiling = None if is_evaluation else self._speeds.ceiling(job)
        if kind.is_evaluated and job.copies > 1:
            output = kind.read_output(value)
            await asyncio.to_thread(require_evaluable, output, is_evaluation=is_evaluation)
        delivered = judge(result, text, value, job, attempt, now(), streamed=streamed, ceiling=ceiling)
        if delivered.work is not None and not is_evaluation:
            self._speeds.record(job, attempt, delivered.work)
        return delivered

    async def _value_in(self, reference: dict[str, Any], attempt: str) -> Any:
        """The output in an artifact that was delivered under this lease. Raises `OutputRefused`."""
        try:
            wanted = msgspec.convert(reference, Reference)
        except msgspec.ValidationError as error:
            raise OutputRefused(str(error)) from None
        found = await self._artifacts.delivered(wanted.artifact, attempt)
        if found is None:
            raise OutputRefused("it refers to an artifact that was not delivered under this lease")
        row, content = found
        if wanted.digest != row.digest:
            raise OutputRefused(f"it names the digest {wanted.digest} for an artifact with {row.digest}")
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise OutputRefused(f"the artifact is not JSON: {error}") from None

    async def agreeing(self, kind: str, answer: Given, earlier: Sequence[Given]) -> list[str]:
        """Those of the earlier attempts whose outputs agree with this one's; both were judged before."""
        rules = KINDS[kind]
        output = await self.read_back(rules, answer)
        others = [(one.attempt, await self.read_back(rules, one)) for one in earlier]
        return await asyncio.to_thread(lambda: [attempt for attempt, other in others if rules.agrees(output, other)])

    async def read_back(self, kind: Kind, answer: Given) -> Any:
        """An output that was judged before. Raises `Unavailable` where its artifact is not there."""
        value = msgspec.json.decode(answer.output)
        try:
            if isinstance(value, dict) and "artifact" in value:
                value = await self._value_in(value, answer.attempt)
            return kind.read_output(value)
        except OutputRefused as error:
            raise Unavailable(f"An answer to be compared cannot be read now: {error}.") from None

    async def is_impossible(self, job: JobValue) -> bool:
        """Whether the platform itself finds that nobody can do what is asked; only for kinds that can be checked."""
        kind = KINDS[job.kind]
        found = None if kind.miner_may_blame else await self._jobs.read(job.id)
        if found is None or found[0].input is None:
            return False
        given = kind.read(msgspec.json.decode(found[0].input))
        references = kind.references(given)
        try:
            files = {field: await self._artifacts.content_of(reference) for field, reference in references.items()}
        except ArtifactNotFound:
            return False
        return await asyncio.to_thread(kind.is_impossible, given, files)

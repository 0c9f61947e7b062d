"""The jobs of nodes: submitted once for each attempt, and stopped."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec
import structlog
from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, TooMany, Unavailable
from aitbc.modules.ai.batched.graphs import Submitted
from aitbc.modules.ai.models.graphs.life import Board, End, GraphState, GraphValue, Node, NodeState, Place
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.graphs.commands import payer_of
from aitbc.modules.ai.service.rate_gate import RateGate
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.ai.service.submissions import Submissions

ANSWERS_KNOWN_FOR = timedelta(hours=23)
"""For so long the answer of a submission is surely known: after this nobody can say whether there is a job."""
_encoder = msgspec.json.Encoder(order="deterministic")
log = structlog.get_logger("aitbc.ai")


class Results(Struct):
    """What became of submissions."""

    submitted: list[Submitted]
    """Those that have a job now."""
    refused: dict[tuple[str, int, int], End]
    """By name, index and attempt those for which no job is made; what is in neither is to be tried again."""


class NodeJobs:
    """Submits the jobs of nodes, and cancels them."""

    def __init__(self, submissions: Submissions, stops: Stops, rate_gate: RateGate) -> None:
        self._submissions = submissions
        self._stops = stops
        self._rate_gate = rate_gate

    async def submit(self, board: Board, nodes: Sequence[Node], commands: Mapping[Place, SubmitJob]) -> Results:
        """Submit a job for each of these nodes, which have begun; under the same keys where it was done before."""
        results = Results([], {})
        answers = await asyncio.gather(*(self._submit(board.graph, node, commands[node.place]) for node in nodes))
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, str):
                results.submitted.append(Submitted(node.place, node.attempt, answer))
            elif isinstance(answer, End):
                results.refused[node.name, node.index, node.attempt] = answer
        return results

    async def _submit(self, graph: GraphValue, node: Node, command: SubmitJob) -> str | End | None:
        """The job of a node; what refuses it; or none where it is to be tried again."""
        if node.started_at is not None and now() - node.started_at > ANSWERS_KNOWN_FOR:
            message = "The platform stood still while it was submitted, for so long that its job is not known any more."
            return End(NodeState.FAILED, "submission_unknown", message)
        who = payer_of(graph)
        try:
            await self._admit(who, command)
            return (await self._submissions.submit(who, command, key_of(graph, node, command))).id
        except TooMany as error:
            return End(NodeState.CANCELED, error.code) if graph.state == GraphState.CANCELING else None
        except Unavailable:
            return None
        except AppError as error:
            return End(NodeState.FAILED, error.code, error.message)
        except Exception:
            log.exception("graph_node_stuck", graph=graph.id, node=node.name)
            return None

    async def _admit(self, who: Principal, command: SubmitJob) -> None:
        model = command.requirements.model or command.input.get("model")
        model = model if isinstance(model, str) else None
        if self._rate_gate.limits(who, model):
            await self._rate_gate.admit(who, model)

    async def cancel(self, graph: GraphValue, jobs: Sequence[str]) -> bool:
        """Cancel jobs of a graph; whether one of them has ended now. One that was quicker stays as it ended."""
        return any(await asyncio.gather(*(self._cancel(payer_of(graph), job) for job in jobs)))

    async def _cancel(self, who: Principal, job: str) -> bool:
        try:
            await self._stops.cancel(who, job, IdempotencyKey.NONE)
        except IllegalMove:
            return True
        except AppError as error:
            log.warning("graph_job_not_canceled", job=job, reason=error.message)
            return False
        return True


def key_of(graph: GraphValue, node: Node, command: SubmitJob) -> IdempotencyKey:
    """The key under which the job of an attempt at a node is submitted."""
    key = f"graph:{graph.id}:{node.name}:{node.index}:{node.attempt}"
    return IdempotencyKey(graph.account, key, hashlib.sha256(_encoder.encode(command)).digest())

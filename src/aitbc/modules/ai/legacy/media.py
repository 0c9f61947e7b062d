"""Media: what is a kind of work becomes a job, and the rest is refused."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.params import JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.amounts import Amount, decimal_text
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import NotDone
from aitbc.modules.ai.legacy.caller import CREATE, READ, Ai
from aitbc.modules.ai.legacy.shapes import NewJob, not_offered
from aitbc.modules.ai.legacy.submission import ANY_PRICE, submit
from aitbc.modules.ai.models.graphs.shapes import GraphNode, RunGraph
from aitbc.modules.ai.service import AiService
from aitbc.modules.ai.service.kind_status import KindStatus, KindSummary

BOTH = "multimodal"
"""A picture and what is said of it: a graph, in which the text in the picture is embedded beside the other."""
MODALITIES = {"text": "embed", "image": "ocr"}
"""What is processed, and the kind of work that does it."""
OPTIMIZED = ("text", "image", "audio", "video")
MEDIA = (*OPTIMIZED, "tabular", "graph")
WORDS = {KindStatus.SERVED: "pass", KindStatus.NO_DATA: "no data", KindStatus.NO_MINER: "no miner"}


class MediumTest(Struct, frozen=True, kw_only=True):
    """How a medium fares, from what miners said and what recent jobs took."""

    status: str
    """`pass`; else `no data` from finished jobs, `no miner` online that does it, or `not offered` as a kind of work."""
    processing_time: float | None
    """The seconds of half of the recent jobs at most."""
    accuracy: None
    """Nobody measures it."""


class DeepHealth(Struct, frozen=True, kw_only=True):
    """How all media fare."""

    status: str
    service: str
    timestamp: datetime
    modality_tests: dict[str, MediumTest]
    overall_health: str
    """`pass` when every medium that is a kind of work passes, else `degraded`."""


class Process(Struct, frozen=True, kw_only=True):
    """Something to be processed."""

    modality: Annotated[str, Meta(max_length=40)] = "text"
    text: str | None = None
    texts: list[str] | None = None
    input: Any = None
    image: Any = None
    payment_amount: Amount | None = None


class Processing(Struct, frozen=True, kw_only=True):
    """A job that does it."""

    task_id: str
    modality: str
    status: str
    result: str


class MediaController(Controller):
    """Processing of media, and how it fares."""

    @post("/multimodal/process", status_code=200, opt=CREATE)
    async def process(self, ai: Ai, who: Who, once: Once, query: QueryParams, data: JSONBody[Process]) -> Processing:
        """Submit the job that does it; for a picture and a text together the graph that does."""
        if data.modality == BOTH:
            return await _process_both(ai, who, once, data)
        kind = MODALITIES.get(data.modality)
        if kind is None:
            raise NotDone(not_offered(f"Processing {data.modality[:40]}"))
        described = {"texts": data.texts, "text": data.text, "input": data.input, "image": data.image or data.input}
        wanted = NewJob(task_type=kind, task_data=described, payment_amount=data.payment_amount)
        job = await submit(ai, who, wanted, once)
        where = f"Ask /jobs/{job.id}/result"
        return Processing(task_id=job.id, modality=data.modality, status="processing", result=where)

    @get("/multimodal/health/deep", opt=READ)
    async def deep(self, ai: Ai) -> DeepHealth:
        """How each medium fares: whether a miner that does it is online, and how long recent jobs took."""
        health = await ai.kind_statuses.of(MODALITIES.values())
        tests = {medium: medium_test(health.get(MODALITIES.get(medium, ""))) for medium in OPTIMIZED}
        overall = all(one.status == KindStatus.SERVED for one in health.values())
        return DeepHealth(
            status="healthy",
            service="multimodal-agent",
            timestamp=now(),
            modality_tests=tests,
            overall_health="pass" if overall else "degraded",
        )


async def _process_both(ai: AiService, who: Principal, once: IdempotencyKey, data: Process) -> Processing:
    """Read a picture, and embed what stands in it after the texts that came along."""
    texts = data.texts or ([] if data.text is None else [data.text])
    if data.image is None or not texts:
        missing = "image" if data.image is None else "text"
        raise invalid(f"/{missing}", "Expected a picture in `image`, and what is said of it in `text` or `texts`")
    budget = decimal_text(data.payment_amount) if data.payment_amount else ANY_PRICE
    nodes = (
        GraphNode(name="image", kind=MODALITIES["image"], input={"image": data.image}),
        GraphNode(name="text", kind=MODALITIES["text"], input={"texts": [*texts, "{{image.text}}"]}),
    )
    graph = await ai.graphs.run(who, RunGraph(name=BOTH, nodes=nodes, budget=budget), once)
    return Processing(task_id=graph.id, modality=BOTH, status="processing", result=f"Ask /api/v1/ai/graphs/{graph.id}")


def medium_test(found: KindSummary | None) -> MediumTest:
    """How a medium fares, by the kind of work that processes it; none where no kind does."""
    if found is None:
        return MediumTest(status="not offered", processing_time=None, accuracy=None)
    return MediumTest(status=WORDS[found.status], processing_time=found.typical_seconds, accuracy=None)

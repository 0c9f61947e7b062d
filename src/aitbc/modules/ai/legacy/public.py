"""Whether the service is there, and what the media paths of the one before come to."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.health import OPEN, HealthController
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.version import this_build
from aitbc.modules.ai.legacy import desk
from aitbc.modules.ai.legacy.shapes import CREATE, READ, SERVICE, NewJob, later
from aitbc.modules.ai.models.fleet import ONLINE
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.service import AiService

MODALITIES = {"text": "embed", "image": "ocr"}
"""What is processed, and the kind of work that does it."""
CAPABILITIES = ("text", "image", "audio", "video", "tabular", "graph")


class Root(Struct, frozen=True, kw_only=True):
    """What this is."""

    service: str
    version: str
    status: str


class Capabilities(Struct, frozen=True, kw_only=True):
    """Which media there is a kind of work for."""

    status: str
    service: str
    timestamp: datetime
    capabilities: dict[str, bool]


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
    payment_amount: Annotated[float, Meta(ge=0, le=1e9)] | None = None


class Processing(Struct, frozen=True, kw_only=True):
    """A job that does it."""

    task_id: str
    modality: str
    status: str
    result: str


class PublicController(HealthController):
    """Open to everybody, and telling nothing of anybody."""

    service = SERVICE

    @get("/", opt=OPEN)
    async def root(self) -> Root:
        """What this is."""
        return Root(service="AITBC AI Service", version=this_build().version, status="operational")

    @get("/multimodal/health", opt=OPEN)
    async def media(self) -> Capabilities:
        """Which media there is a kind of work for."""
        found = {f"{name}_processing": MODALITIES.get(name) in KINDS for name in CAPABILITIES}
        return Capabilities(status="healthy", service="multimodal-agent", timestamp=now(), capabilities=found)

    @get("/optimization/health", opt=OPEN)
    async def optimization(self) -> Capabilities:
        """Nothing is optimised yet."""
        found = {f"{name}_optimization": False for name in CAPABILITIES[:4]}
        return Capabilities(status="healthy", service="modality-optimization", timestamp=now(), capabilities=found)


class MediaController(Controller):
    """Media: what is a kind of work becomes a job, and the rest says that it is none."""

    @post("/multimodal/process", status_code=200, opt=CREATE)
    async def process(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[Process],
    ) -> Processing:
        """Submit the job that does it."""
        kind = MODALITIES.get(data.modality)
        if kind is None:
            raise later(f"Processing {data.modality[:40]}")
        described = {"texts": data.texts, "text": data.text, "input": data.input, "image": data.image or data.input}
        wanted = NewJob(task_type=kind, task_data=described, payment_amount=data.payment_amount)
        job = await desk.submit(ai, who, wanted, once)
        told = f"Ask /jobs/{job.id}/result"
        return Processing(task_id=job.id, modality=data.modality, status="processing", result=told)

    @get("/multimodal/health/deep", opt=READ)
    async def deep(self, ai: NamedDependency[AiService]) -> DeepHealth:
        """How each medium fares: whether a miner that does it is online, and how long recent jobs took."""
        kinds = {kind for miner in await ai.fleet_view.miners() if miner.status == ONLINE for kind in miner.kinds}
        tests = {}
        for medium in CAPABILITIES[:4]:
            kind = MODALITIES.get(medium)
            took = None if kind is None else await ai.durations.typical_seconds(kind)
            standing = "not offered" if kind is None else "no miner" if kind not in kinds else "no data"
            passes = kind in kinds and took is not None
            tests[medium] = MediumTest(status="pass" if passes else standing, processing_time=took, accuracy=None)
        overall = all(tests[medium].status == "pass" for medium in MODALITIES)
        return DeepHealth(
            status="healthy",
            service="multimodal-agent",
            timestamp=now(),
            modality_tests=tests,
            overall_health="pass" if overall else "degraded",
        )

    @get(["/multimodal/agents", "/optimization/agents"], opt=READ)
    async def agents(self) -> None:
        """Refused."""
        raise later("What these agents were said to do")

    @post(
        ["/multimodal/benchmark", "/optimization/tune", "/optimization/predict"],
        status_code=200,
        opt=CREATE | {"idempotency": "natural"},
    )
    async def tune(self) -> None:
        """Refused: nothing is done, so nothing is done twice."""
        raise later("Benchmarking, tuning or predicting of models")

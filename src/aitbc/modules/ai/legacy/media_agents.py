"""The agents for media of the older coordinator: each is a kind of work that processes a medium."""

from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.primitives.errors import NotDone, NotFound
from aitbc.kernel.primitives.json_schema import schema_of
from aitbc.modules.ai.legacy.caller import CREATE, NATURAL, READ, Ai
from aitbc.modules.ai.legacy.media import MODALITIES, MediumTest, medium_test
from aitbc.modules.ai.legacy.shapes import NewJob, not_offered
from aitbc.modules.ai.legacy.submission import submit
from aitbc.modules.ai.legacy.tuning import said_of
from aitbc.modules.ai.models.kinds.registry import KINDS

MEDIA = {kind: medium for medium, kind in MODALITIES.items()}
FEW = Meta(ge=0, le=100_000)


class UnknownMediaAgent(NotFound):
    """There is no such agent; GET /multimodal/agents of ai lists them, by the names of kinds of work."""

    code = "unknown_media_agent"


class ProcessByAgent(Struct, frozen=True, kw_only=True):
    """What an agent is to process, by medium or as a job of its kind."""

    modalities: dict[str, Any] = {}
    text: Any = None
    texts: list[str] | None = None
    image: Any = None
    output_format: Annotated[str, Meta(max_length=40)] = "json"


class BenchmarkOfAgent(Struct, frozen=True, kw_only=True):
    """What is to be looked up; the data set and the metrics that a client names are not ours."""

    iterations: Annotated[int, FEW] = 0


class Resources(Struct, frozen=True, kw_only=True):
    """For how long ahead something is to be predicted."""

    horizon_hours: Annotated[float, FEW] = 24


class MediaAgents(Controller):
    """Agents for media: what they take, what their work took, and work for them."""

    @get("/multimodal/agents/{agent:str}/capabilities", opt=READ)
    async def capabilities(self, ai: Ai, query: QueryParams, agent: FromPath[str]) -> dict[str, Any]:
        """What an agent takes and gives, and whether a miner does it now."""
        kind = KINDS[_known(agent)]
        found = (await ai.kind_statuses.of((agent,)))[agent]
        return {
            "id": agent,
            "name": kind.summary,
            "modalities": [MEDIA[agent]],
            "status": medium_test(found).status,
            "unit": kind.unit,
            "metering": kind.metering,
            "input_schema": schema_of(kind.input),
            "output_schema": schema_of(kind.output),
        }

    @post("/multimodal/agents/{agent:str}/process", status_code=200, opt=CREATE)
    async def process(
        self,
        ai: Ai,
        who: Who,
        once: Once,
        query: QueryParams,
        agent: FromPath[str],
        data: JSONBody[ProcessByAgent],
    ) -> dict[str, Any]:
        """Submit the job that does it."""
        kind = _known(agent)
        if others := set(data.modalities) - {MEDIA[kind]}:
            raise NotDone(not_offered(f"Processing {', '.join(sorted(others))[:80]} by this agent"))
        told = data.modalities.get(MEDIA[kind])
        described = {"texts": data.texts, "text": data.text or told, "image": data.image or told}
        job = await submit(ai, who, NewJob(task_type=kind, task_data=described), once)
        return {
            "id": job.id,
            "task_id": job.id,
            "agent_id": agent,
            "status": "processing",
            "result": f"/v1/jobs/{job.id}",
        }

    @post("/multimodal/agents/{agent:str}/benchmark", status_code=200, opt=NATURAL)
    async def benchmark(
        self, ai: Ai, query: QueryParams, agent: FromPath[str], data: JSONBody[BenchmarkOfAgent]
    ) -> dict[str, Any]:
        """How fast paid work of an agent was in the last seven days; nothing is run for it."""
        found = await ai.run_records.of(kind=_known(agent))
        return {
            "id": None,
            "agent_id": agent,
            "latency_ms": None if found is None else round(found.median_seconds * 1000),
            "throughput": said_of(found),
            "runs": 0 if found is None else found.runs,
        }

    @post("/multimodal/agents/{agent:str}/test/{modality:str}", status_code=200, opt=NATURAL)
    async def test(self, ai: Ai, query: QueryParams, agent: FromPath[str], modality: FromPath[str]) -> MediumTest:
        """Whether a miner does an agent's work now, and how long recent work took; nothing is run for it."""
        kind = _known(agent)
        if modality != MEDIA[kind]:
            return medium_test(None)
        return medium_test((await ai.kind_statuses.of((kind,)))[kind])

    @post("/predict/agents/{agent:str}/resources", status_code=200, opt=NATURAL)
    async def predict(
        self, ai: Ai, query: QueryParams, agent: FromPath[str], data: JSONBody[Resources]
    ) -> dict[str, Any]:
        """How long one piece of an agent's work will take, by recorded runs and with how sure that is."""
        found = await ai.run_records.of(kind=_known(agent))
        return {
            "agent_id": agent,
            "horizon_hours": data.horizon_hours,
            "prediction": said_of(found),
            "seconds": None if found is None else found.median_seconds,
            "confidence": None if found is None else 0.95,
        }


def _known(agent: str) -> str:
    """The kind of work that an agent is. Raises `UnknownMediaAgent`."""
    if agent not in MEDIA:
        raise UnknownMediaAgent
    return agent

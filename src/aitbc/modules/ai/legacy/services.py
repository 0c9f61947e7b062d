"""The typed services of the older coordinator.

Those that are a kind of work become jobs, the rest says why it is none.
"""

from typing import Annotated, Any

from litestar import Controller, Response, get, post
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Meta, Struct, structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.primitives.errors import NotDone, NotFound
from aitbc.kernel.primitives.json_schema import schema_of
from aitbc.modules.ai.api import Job
from aitbc.modules.ai.legacy.caller import CREATE, NATURAL, READ, Ai
from aitbc.modules.ai.legacy.shapes import COORDINATOR_STATES, NewJob, not_offered
from aitbc.modules.ai.legacy.submission import ANY_PRICE, submit
from aitbc.modules.ai.models.fleet import ONLINE
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service import AiService

LLM = "llm_inference"
SERVICES = {LLM: "chat", "text_embedding": "embed", "ocr": "ocr", "command": "command"}
"""What is served, and the kind of work that does it."""
ONCE_SERVED = frozenset({"whisper", "stable_diffusion", "ffmpeg", "blender"})
"""What was on the list before, and no kind of work does."""


class UnknownService(NotFound):
    """There is no such service; GET /v1/services lists what there is."""

    code = "unknown_service"


class Inference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt for a language model; an option that no kind of work knows is refused rather than dropped."""

    prompt: Annotated[str, Meta(min_length=1)]
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] | None = None
    stream: bool = False
    """Makes no difference: the answer is the job's result."""
    parameters: dict[str, Any] = {}


class Service(Struct, frozen=True, kw_only=True):
    """A service, and what of it can be had now."""

    type: str
    name: str
    description: str
    models: list[str]
    """The models that miners which are online name; one that names none takes prompts that name none."""
    constraints: dict[str, Any]
    """What a miner must have by itself: nothing, unless a job asks for it."""


class Services(Struct, frozen=True, kw_only=True):
    """The services that there are."""

    services: list[Service]


class ServiceSchema(Struct, frozen=True, kw_only=True):
    """What a service takes."""

    service_type: str
    schema: dict[str, Any]


class TaskMade(Struct, frozen=True, kw_only=True):
    """A job that does it."""

    task_id: str
    job_id: str
    service_type: str
    status: str


class ServiceController(Controller):
    """Typed services."""

    path = "/v1/services"

    @get("/", opt=READ)
    async def services(self, ai: Ai) -> Services:
        """The services that there are, with the models that can be had."""
        models: dict[str, set[str]] = {}
        for miner in await ai.fleet_view.miners():
            if miner.status == ONLINE:
                for kind, served in miner.models.items():
                    models.setdefault(kind, set()).update(served)
        found = [
            Service(
                type=service,
                name=service.replace("_", " "),
                description=KINDS[kind].summary,
                models=sorted(models.get(kind, ())),
                constraints={},
            )
            for service, kind in SERVICES.items()
        ]
        return Services(services=found)

    @get("/{service:str}/schema", opt=READ)
    async def schema(self, query: QueryParams, service: FromPath[str]) -> ServiceSchema:
        """What a service takes, as a JSON schema."""
        kind = _kind_of(service)
        taken = Inference if service == LLM else KINDS[kind].input
        return ServiceSchema(service_type=service, schema=_flat(schema_of(taken)))

    @post(["/llm/inference", f"/{LLM}"], opt=CREATE)
    async def infer(self, ai: Ai, who: Who, once: Once, data: JSONBody[Inference]) -> Response[TaskMade]:
        """Submit the job that answers a prompt."""
        return Response(_made(LLM, await _infer(ai, who, data, once)), status_code=201)

    @post("/llm/stream", status_code=200, opt=CREATE)
    async def stream(self, ai: Ai, who: Who, once: Once, data: JSONBody[Inference]) -> TaskMade:
        """Submit the same job: this path never streamed, and its answer says where the result will be."""
        return _made(LLM, await _infer(ai, who, data, once))

    @post("/{service:str}", status_code=201, opt=CREATE)
    async def submit(
        self,
        ai: Ai,
        who: Who,
        once: Once,
        query: QueryParams,
        service: FromPath[str],
        data: JSONBody[dict[str, Any]],
    ) -> TaskMade:
        """Submit the job that does it, for what it can cost at most; the body is what the schema says."""
        command = SubmitJob(kind=_kind_of(service), input=data, max_price=ANY_PRICE)
        return _made(service, await ai.submissions.submit_quoted(who, command, once))

    @post("/{service:str}/{task:str}", status_code=201, opt=NATURAL)
    async def other(self, query: QueryParams, service: FromPath[str], task: FromPath[str]) -> None:
        """Refused: nothing is done, so nothing is done twice."""
        raise NotDone(not_offered(f"{service[:40]}/{task[:40]}"))


def _kind_of(service: str) -> str:
    """The kind of work of a service. Raises `UnknownService`, and `NotDone` for what was once on the list."""
    kind = SERVICES.get(service)
    if kind is None and service in ONCE_SERVED:
        raise NotDone(not_offered(service))
    if kind is None:
        raise UnknownService
    return kind


async def _infer(ai: AiService, who: Principal, data: Inference, once: IdempotencyKey) -> Job:
    described = {name: value for name, value in structs.asdict(data).items() if value is not None and name != "stream"}
    described["stop"] = described.pop("stop_sequences", None)
    return await submit(ai, who, NewJob(task_type="chat", task_data=described), once)


def _made(service: str, job: Job) -> TaskMade:
    state = COORDINATOR_STATES.word(job.state)
    return TaskMade(task_id=job.id, job_id=job.id, service_type=service, status=state)


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose own fields stand at its top, with what they refer to beside them."""
    named = schema.pop("$defs", {})
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    flat = {"required": []} | (named.pop(name) if name in named else schema)
    return flat | ({"$defs": named} if named else {})

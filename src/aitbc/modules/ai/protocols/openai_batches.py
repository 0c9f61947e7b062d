"""`/v1/batches`: requests in a file, each a job of its own, done within a day for less."""

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.ai.protocols import line_formats  # noqa: F401 - it tells `service.batches` how lines are read
from aitbc.modules.ai.protocols.examples import BATCH_CANCELLED, BATCHES, NEW_BATCH, ONE_BATCH
from aitbc.modules.ai.protocols.openai_files import keep_seconds
from aitbc.modules.ai.protocols.openai_requests import Label, refused
from aitbc.modules.ai.protocols.pages import After, PageSize, page_of
from aitbc.modules.ai.service.batches.batches import Batches, NewBatch
from aitbc.modules.ai.service.batches.formats import FORMATS
from aitbc.modules.ai.service.batches.views import Batch

READ: dict[str, Any] = {"permission": "jobs:read"}
CHANGE: dict[str, Any] = {"permission": "jobs:create", "idempotency": "natural"}
LABELS_MAX = 16
LABEL_NAME_MAX = 64


class KeepFor(Struct, frozen=True, forbid_unknown_fields=True):
    """How long the files of a batch are to be kept."""

    anchor: str
    seconds: int


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/batches`."""

    input_file_id: Annotated[str, Meta(max_length=64)]
    endpoint: Annotated[str, Meta(max_length=64)]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[str, Label], Meta(max_length=LABELS_MAX)] | None = None
    output_expires_after: KeepFor | None = None

    def new(self, *, is_repeated: bool) -> NewBatch:
        """The batch that is asked for. Raises `ParameterRefused`."""
        if self.endpoint not in FORMATS:
            raise refused("endpoint", f"A batch is for one of: {', '.join(sorted(FORMATS))}.")
        if any(not 0 < len(name) <= LABEL_NAME_MAX for name in self.metadata or ()):
            raise refused("metadata", f"A name has 1 to {LABEL_NAME_MAX} characters.")
        kept = self.output_expires_after
        seconds = None if kept is None else keep_seconds(kept.anchor, kept.seconds, "output_expires_after")
        return NewBatch(
            endpoint=self.endpoint,
            input_file=self.input_file_id,
            output_seconds=seconds,
            labels=self.metadata,
            fingerprint=hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest(),
            is_repeated=is_repeated,
        )


class OpenAiBatches(Controller):
    """Batches."""

    path = "/v1/batches"
    tags = ("openai",)

    @post("/", operation_id="create_batch", status_code=200, opt=NEW_BATCH | {"permission": "jobs:create"})
    async def create(
        self,
        batches: NamedDependency[Batches],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: Request[Any, Any, Any],
        data: JSONBody[BatchRequest],
    ) -> dict[str, Any]:
        """Begin a batch.

        What the client says it repeats is the batch that it made by the same request just before.
        """
        if who.subject is not None:
            raise Forbidden("A miner's key has no batches.")
        is_repeated = request.headers.get("x-stainless-retry-count", "0") != "0"
        return batch_object(await batches.create(who, data.new(is_repeated=is_repeated), once))

    @get("/", operation_id="list_batches", opt=READ | BATCHES)
    async def list_batches(
        self,
        batches: NamedDependency[Batches],
        who: NamedDependency[Principal],
        after: FromQuery[After] = None,
        limit: FromQuery[PageSize] = 20,
    ) -> dict[str, Any]:
        """List the caller's batches from the newest on."""
        after = None if after is None else (await batches.get(who, after)).id
        return page_of(await batches.page(who, after=after, limit=limit + 1), limit, batch_object)

    @get("/{batch:str}", operation_id="get_batch", opt=READ | ONE_BATCH)
    async def get_batch(
        self, batches: NamedDependency[Batches], who: NamedDependency[Principal], batch: FromPath[str]
    ) -> dict[str, Any]:
        """Tell of a batch."""
        return batch_object(await batches.get(who, batch))

    @post("/{batch:str}/cancel", operation_id="cancel_batch", status_code=200, opt=CHANGE | BATCH_CANCELLED)
    async def cancel(
        self, batches: NamedDependency[Batches], who: NamedDependency[Principal], batch: FromPath[str]
    ) -> dict[str, Any]:
        """Cancel what no miner has taken; what is worked on ends, and its answers are there."""
        return batch_object(await batches.cancel(who, batch))


def batch_object(batch: Batch) -> dict[str, Any]:
    """A batch as these clients read it."""
    times = {name: getattr(batch, name) for name in _TIMES}
    ended = {f"{state}_at": batch.ended_at if batch.status == state else None for state in _ENDS}
    faults = [msgspec.to_builtins(fault) for fault in batch.errors]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        **{name: None if at is None else int(at.timestamp()) for name, at in (times | ended).items()},
        "request_counts": {"total": batch.requests, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.labels,
        "aitbc": {"spent": batch.spent},
    }


_TIMES = ("created_at", "in_progress_at", "expires_at", "finalizing_at", "cancelling_at")
_ENDS = ("completed", "failed", "expired", "cancelled")

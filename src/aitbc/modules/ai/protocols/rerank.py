"""`POST /v1/rerank`: documents by how well they fit a query, as Jina's and Cohere's clients ask for it."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.models.kinds.rerank import DOCUMENTS_MAX, RerankOutput
from aitbc.modules.ai.protocols.attended import OPT, AnyRequest, begin, receipt_of, whole
from aitbc.modules.ai.protocols.examples import RERANKING
from aitbc.modules.ai.protocols.openai_requests import Label, ModelName, refuse_unless
from aitbc.modules.ai.service.attended_runs import AttendedRuns
from aitbc.modules.ai.service.text_runs import Ended


class RerankRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/rerank`."""

    model: ModelName
    query: str
    documents: list[Any]
    """Texts, or objects with a `text`."""
    top_n: Annotated[int, Meta(ge=1)] | None = None
    """How many of them to tell, the best ones; left out, all."""
    return_documents: bool | None = None
    """Whether to tell the texts too."""
    user: Label | None = None
    """A label of the client's own; nothing depends on it."""

    @property
    def texts(self) -> list[Any]:
        """The texts of the documents; what is none stays as it is."""
        return [one.get("text") if isinstance(one, dict) else one for one in self.documents]

    def work(self) -> dict[str, Any]:
        """The input of a job of kind `rerank`. Raises `ParameterRefused` for documents that are no texts."""
        refuse_unless(0 < len(self.documents) <= DOCUMENTS_MAX, "documents", f"It must be 1 to {DOCUMENTS_MAX} texts.")
        are_texts = all(isinstance(text, str) for text in self.texts)
        refuse_unless(are_texts, "documents", "It must be texts, or objects with a text.")
        return {"query": self.query, "documents": self.texts, "model": self.model}


class Reranking(Controller):
    """Reranking."""

    path = "/v1"
    tags = ("openai",)

    @post("/rerank", operation_id="create_reranking", status_code=200, opt=OPT | RERANKING)
    async def rerank(
        self,
        attended_runs: NamedDependency[AttendedRuns],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[RerankRequest],
    ) -> Response[Any]:
        """Rank documents by how well they fit a query."""
        run = await begin(attended_runs, who, once, request, ("rerank", data.work()))
        return Response(reranking_answer(data, await whole(run, request)), headers=run.headers)


def reranking_answer(asked: RerankRequest, ended: Ended) -> dict[str, Any]:
    """The body of an answer: the best document first, those of equal scores in their order."""
    scores = msgspec.convert(ended.output, RerankOutput).scores
    ranked = sorted(range(len(scores)), key=lambda at: -scores[at])[: asked.top_n]
    tokens = ended.usage.get("tokens")
    used = (ended.job.units or 0) if tokens is None else tokens
    counted = {"tokens": "at most" if tokens is None else "counted by the model's server"}
    texts = asked.texts if asked.return_documents else None
    return {
        "id": ended.job.id,
        "model": asked.model,
        "results": [
            {"index": at, "relevance_score": scores[at]} | ({"document": {"text": texts[at]}} if texts else {})
            for at in ranked
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
        "aitbc": receipt_of(ended) | counted,
    }

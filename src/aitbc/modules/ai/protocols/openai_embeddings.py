"""`POST /v1/embeddings`: a vector for each text, as numbers or as base64 of them."""

import base64
import struct
from typing import Any

import msgspec
from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.models.kinds.embed import EmbedOutput
from aitbc.modules.ai.protocols.attended import OPT, AnyRequest, begin, receipt_of, whole
from aitbc.modules.ai.protocols.examples import EMBEDDING
from aitbc.modules.ai.protocols.openai_requests import EmbeddingRequest
from aitbc.modules.ai.service.attended_runs import AttendedRuns
from aitbc.modules.ai.service.text_runs import Ended


class OpenAiEmbeddings(Controller):
    """Embeddings."""

    path = "/v1"
    tags = ("openai",)

    @post("/embeddings", operation_id="create_embedding", status_code=200, opt=OPT | EMBEDDING)
    async def embed(
        self,
        attended_runs: NamedDependency[AttendedRuns],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[EmbeddingRequest],
    ) -> Response[Any]:
        """Turn texts into vectors."""
        run = await begin(attended_runs, who, once, request, ("embed", data.work()))
        return Response(embedding_answer(data, await whole(run, request)), headers=run.headers)


def embedding_answer(asked: EmbeddingRequest, ended: Ended) -> dict[str, Any]:
    """The body of an answer."""
    vectors = msgspec.convert(ended.output, EmbedOutput).vectors
    encode = _base64 if asked.encoding_format == "base64" else list
    tokens = ended.usage.get("tokens")
    counted = {"tokens": "at most" if tokens is None else "counted by the model's server"}
    used = (ended.job.units or 0) if tokens is None else tokens
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)
        ],
        "model": asked.model,
        "usage": {"prompt_tokens": used, "total_tokens": used},
        "aitbc": receipt_of(ended) | counted,
    }


def _base64(vector: list[float]) -> str:
    """The numbers as little-endian floats of 32 bits."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

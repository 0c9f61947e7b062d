"""The HTTP of artifacts."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import StorageFailed, StorageFull
from aitbc.kernel.primitives.request_errors import UnsupportedMedia
from aitbc.modules.ai.api import ArtifactNotFound, LeaseLost
from aitbc.modules.ai.models.views import Artifact
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.settings import UPLOAD_BYTES_MAX
from aitbc.modules.ai.service.uploads import ArtifactQuotaExceeded, ArtifactTooLarge, TooManyUploads

RAW = "application/octet-stream"
UploadRequest = Request[Any, Any, Any]


class ArtifactController(Controller):
    """Files that inputs and outputs refer to."""

    path = "/artifacts"
    tags = ("ai",)

    @post(
        "/",
        operation_id="upload_artifact",
        summary="Upload an artifact",
        opt={
            "permission": "artifacts:write",
            "idempotency": "natural",
            "lasts": True,
            "raw_body": RAW,
            "raw_body_bytes": UPLOAD_BYTES_MAX,
            "errors": (
                *(ArtifactTooLarge, ArtifactQuotaExceeded, TooManyUploads),
                *(LeaseLost, UnsupportedMedia, StorageFull, StorageFailed),
            ),
        },
    )
    async def upload(
        self,
        artifacts: NamedDependency[Artifacts],
        who: NamedDependency[Principal],
        request: UploadRequest,
        attempt: FromQuery[Annotated[str, Meta(max_length=40)] | None] = None,
    ) -> Artifact:
        """Upload a file, as the raw body with `Content-Type: application/octet-stream`.

        It is kept under the SHA-256 of its content; uploading the same content again answers the same artifact. Room is
        reserved before the first byte is taken: as much as `Content-Length` says, else as much as one artifact may
        have. A miner uploads under one of its live leases, named by `attempt`, on behalf of the job's owner.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != RAW:
            raise UnsupportedMedia
        length = request.headers.get("content-length")
        return await artifacts.store(who, request.stream(), attempt, None if length is None else int(length))

    @get(
        "/{artifact:str}",
        operation_id="download_artifact",
        summary="Download an artifact",
        media_type=RAW,
        opt={"permission": "artifacts:read", "lasts": True, "errors": (ArtifactNotFound,)},
    )
    async def download(
        self, artifacts: NamedDependency[Artifacts], who: NamedDependency[Principal], artifact: FromPath[str]
    ) -> Stream:
        """Stream the content of an artifact: its owner's, or a miner's whose live lease refers to it."""
        found, pieces = await artifacts.open(who, artifact)
        headers = {
            "content-length": str(found.bytes),
            "content-disposition": f'attachment; filename="{found.id}"',
            "etag": f'"{found.digest}"',
        }
        return Stream(_flow(pieces), media_type=RAW, headers=headers)


async def _flow(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece

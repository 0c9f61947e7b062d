"""`/v1/files`: uploaded, listed, told, given back and deleted."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.ai.api import ArtifactNotFound
from aitbc.modules.ai.models.views import Artifact
from aitbc.modules.ai.protocols.examples import FILE_CONTENT, FILE_DELETED, FILES, NEW_FILE, ONE_FILE
from aitbc.modules.ai.protocols.openai_requests import refused
from aitbc.modules.ai.protocols.pages import After, PageSize, page_of
from aitbc.modules.ai.protocols.uploaded_form import UploadedForm, read_upload
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.settings import UPLOAD_BYTES_MAX
from aitbc.modules.ai.service.stored_files import FileNotFound, Files, NewFile, StoredFile

READ: dict[str, Any] = {"permission": "artifacts:read"}
CHANGE: dict[str, Any] = {"permission": "artifacts:write", "idempotency": "natural"}
PURPOSES = ("batch", "user_data")
"""What a file may be uploaded for: the input of batches, or nothing but to be kept."""
KEEP_SECONDS = (3600, 2_592_000)
_FORM_BYTES = 64 * 1024
_FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})
Purpose = Annotated[str, Meta(max_length=40)]


class OpenAiFiles(Controller):
    """Files."""

    path = "/v1/files"
    tags = ("openai",)

    @post(
        "/",
        operation_id="upload_file",
        status_code=200,
        opt=NEW_FILE
        | {
            "permission": "artifacts:write",
            "idempotency": "natural",
            "lasts": True,
            "raw_body": "multipart/form-data",
            "raw_body_bytes": UPLOAD_BYTES_MAX + _FORM_BYTES,
        },
    )
    async def upload(
        self,
        artifacts: NamedDependency[Artifacts],
        files: NamedDependency[Files],
        who: NamedDependency[Principal],
        request: Request[Any, Any, Any],
    ) -> dict[str, Any]:
        """Keep a file. A form that is refused leaves nothing."""
        _require_owner(who)
        begun_at, form = now(), UploadedForm({})

        async def store(stream: AsyncIterator[bytes]) -> Artifact:
            return await artifacts.store(who, stream, None)

        is_kept = False
        try:
            await read_upload(request, form, store)
            new = _new(form, is_own=form.artifact is not None and form.artifact.created_at >= begun_at)
            stored = await files.add(who, new)
            is_kept = True
        finally:
            if not is_kept and form.artifact is not None and form.artifact.created_at >= begun_at:
                await files.discard(form.artifact)
        return file_object(stored)

    @get("/", operation_id="list_files", opt=READ | FILES)
    async def list_files(
        self,
        files: NamedDependency[Files],
        who: NamedDependency[Principal],
        purpose: FromQuery[Purpose | None] = None,
        after: FromQuery[After] = None,
        limit: FromQuery[PageSize] = 1000,
        order: FromQuery[Literal["asc", "desc"]] = "desc",
    ) -> dict[str, Any]:
        """List the caller's files."""
        _require_owner(who)
        after = None if after is None else (await files.get(who, after)).id
        found = await files.page(who, purpose=purpose, after=after, limit=limit + 1, newest_first=order == "desc")
        return page_of(found, limit, file_object)

    @get("/{file:str}", operation_id="get_file", opt=READ | ONE_FILE)
    async def get_file(
        self, files: NamedDependency[Files], who: NamedDependency[Principal], file: FromPath[str]
    ) -> dict[str, Any]:
        """Tell of a file."""
        return file_object(await files.get(who, file))

    @get(
        "/{file:str}/content",
        operation_id="get_file_content",
        media_type="application/octet-stream",
        opt=READ | FILE_CONTENT | {"lasts": True},
    )
    async def get_content(
        self,
        artifacts: NamedDependency[Artifacts],
        files: NamedDependency[Files],
        who: NamedDependency[Principal],
        file: FromPath[str],
    ) -> Stream:
        """Give a file back, as it was."""
        found = await files.get(who, file)
        try:
            pieces = await artifacts.pieces_of(found.artifact)
        except ArtifactNotFound:
            raise FileNotFound from None
        headers = {"content-length": str(found.bytes), "content-disposition": f'attachment; filename="{found.id}"'}
        return Stream(_flow(pieces), media_type="application/octet-stream", headers=headers)

    @delete("/{file:str}", operation_id="delete_file", status_code=200, opt=CHANGE | FILE_DELETED)
    async def remove(
        self, files: NamedDependency[Files], who: NamedDependency[Principal], file: FromPath[str]
    ) -> dict[str, Any]:
        """Delete a file and its content."""
        await files.delete(who, file)
        return {"id": file, "object": "file", "deleted": True}


def file_object(file: StoredFile) -> dict[str, Any]:
    """A file as these clients read it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "aitbc": {"artifact": file.artifact},
    }


def keep_seconds(anchor: str | None, seconds: str | int | None, name: str) -> int | None:
    """How long something is to be kept. Raises `ParameterRefused`."""
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise refused(f"{name}/anchor", "The anchor must be created_at.")
    least, most = KEEP_SECONDS
    if not str(seconds).isascii() or not str(seconds).isdecimal() or not least <= int(str(seconds)[:9]) <= most:
        raise refused(f"{name}/seconds", f"It must be {least} to {most} seconds.")
    return int(str(seconds))


def _new(form: UploadedForm, *, is_own: bool) -> NewFile:
    for name in sorted(form.fields.keys() - _FIELDS):
        raise refused(name, "There is no such field.")
    purpose = form.fields.get("purpose")
    if purpose not in PURPOSES:
        raise refused("purpose", f"It must be one of: {', '.join(PURPOSES)}.")
    kept = keep_seconds(
        form.fields.get("expires_after[anchor]"), form.fields.get("expires_after[seconds]"), "expires_after"
    )
    if form.artifact is None or form.file_name is None:
        raise refused("file", "This field is required.")
    if not form.artifact.bytes:
        raise refused("file", "It is empty.")
    return NewFile(name=form.file_name, purpose=purpose, keep_seconds=kept, artifact=form.artifact, is_own=is_own)


def _require_owner(who: Principal) -> None:
    if who.subject is not None:
        raise Forbidden("A miner's key has no files.")


async def _flow(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece

"""Uploads: room is reserved before the first byte flows, and an upload that ends without success leaves nothing.

An upload is a row of its artifact without a digest, and a file that it alone holds. The row counts against the quota
from the start, for every process of the installation; what a process that died left of both is removed by a sweep.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import structlog
from msgspec import Struct
from sqlalchemy import delete, func, select
from sqlalchemy.sql.elements import ColumnElement

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Forbidden, TooLarge, TooMany
from aitbc.kernel.primitives.storage import storage_error
from aitbc.modules.ai.api import LeaseLost
from aitbc.modules.ai.models.tables import UPLOADING, ArtifactRow, AttemptRow, JobRow
from aitbc.modules.ai.models.views import Artifact, artifact_view
from aitbc.modules.ai.service.artifact_files import ArtifactFiles, IncomingFile
from aitbc.modules.ai.service.limits import Limits
from aitbc.modules.ai.service.rows import lock_name
from aitbc.modules.ai.service.settings import UPLOAD_BYTES_MAX

PIECE_BYTES = 1024 * 1024
ATTEMPT_FILES_MAX = 64
"""How many artifacts one attempt may deliver."""
LASTS = timedelta(minutes=20)
"""How long an upload counts without its process; the boundary ends each much sooner."""

log = structlog.get_logger("aitbc.ai.uploads")


class ArtifactTooLarge(TooLarge):
    """The artifact is larger than allowed."""

    code = "artifact_too_large"


class ArtifactQuotaExceeded(TooLarge):
    """The artifacts of this account would take more room than it has."""

    code = "artifact_quota_exceeded"


class TooManyUploads(TooMany):
    """As many uploads of this account as may go on at one time are under way; try again when one has ended."""

    code = "too_many_uploads"


class Room(Struct, frozen=True):
    """What is reserved for one upload."""

    owner: str
    attempt: str | None
    artifact: str
    bytes: int
    """How many it may have."""
    quota: int | None
    """What the owner's artifacts may weigh together; none for what the platform writes itself."""


class Uploads:
    """Takes uploads in."""

    def __init__(self, db: Database, limits: Limits, files: ArtifactFiles) -> None:
        self._db = db
        self._limits = limits
        self._files = files

    async def store(
        self, who: Principal, stream: AsyncIterator[bytes], attempt: str | None, announced: int | None = None
    ) -> Artifact:
        """Keep what the stream brings. A miner stores under a live lease of its own, on behalf of the job's owner.

        The same content again is the same artifact, kept for longer. `announced` is how many bytes will come; without
        it as much room is reserved as one artifact may take, or as is left.
        Raises `ArtifactTooLarge`, `ArtifactQuotaExceeded`, `TooManyUploads`, `LeaseLost`, `Forbidden`, `StorageFull`.
        """
        if (who.subject is not None) != (attempt is not None):
            raise Forbidden("A miner's key stores artifacts under one of its leases, and only a miner's key does.")
        owner = who.account if attempt is None else await self._owner_of_lease(who, attempt)
        artifact, reserved = await self._reserve(owner, attempt, announced)

        async def still_leased() -> None:
            if attempt is not None:
                await self._owner_of_lease(who, attempt)  # it may have ended meanwhile

        room = Room(owner, attempt, artifact, reserved, self._limits.artifact_quota_bytes)
        return await self._store(room, stream, still_leased)

    async def write(self, owner: str, stream: AsyncIterator[bytes]) -> Artifact:
        """Keep what the platform itself writes for an account. It counts against the quota, but is never refused by it.

        Raises `ArtifactTooLarge` past `UPLOAD_BYTES_MAX`, `StorageFull`.
        """
        artifact = await self._add_upload(owner, None, 0)
        return await self._store(Room(owner, None, artifact, UPLOAD_BYTES_MAX, None), stream, _nothing)

    async def _store(
        self, room: Room, stream: AsyncIterator[bytes], require: Callable[[], Awaitable[None]]
    ) -> Artifact:
        """Keep what the stream brings in a room that is reserved; `require` is asked once all of it is there."""
        owner, is_stored = room.owner, False
        try:
            file = self._files.incoming(room.artifact)
            try:
                await self._receive(file, stream, room.bytes)
                await require()
                stored = await self._note(room, file)
                is_stored = True
                return stored
            finally:
                await asyncio.to_thread(file.close)
        except OSError as error:
            if (refusal := storage_error(error)) is not None:
                log.error("artifact_not_stored", reason=str(error), account=owner)
                raise refusal from error
            raise
        finally:
            if not is_stored:
                await self._cancel(room.artifact)

    async def _reserve(self, owner: str, attempt: str | None, announced: int | None) -> tuple[str, int]:
        """Reserve room; returns the artifact and how many bytes it may have."""
        largest = self._limits.artifact_bytes_max
        if announced is not None and announced > largest:
            raise ArtifactTooLarge(f"An artifact may have {largest} bytes and this has {announced}.")
        async with self._db.unit_of_work() as uow:
            await lock_name(uow, f"account {owner}")
            left = await self._room_left(uow, owner, attempt, announced)
            size = max(min(largest, left), 0) if announced is None else announced
            row = _upload(owner, attempt, size)
            uow.add(row)
        return row.id, size

    async def _add_upload(self, owner: str, attempt: str | None, size: int) -> str:
        async with self._db.unit_of_work() as uow:
            row = _upload(owner, attempt, size)
            uow.add(row)
        return row.id

    async def _room_left(self, uow: UnitOfWork, owner: str, attempt: str | None, announced: int | None) -> int:
        """What is left of the quota. Raises `TooManyUploads`, and `ArtifactQuotaExceeded` for more than that."""
        own = _own(owner, attempt)
        uploading = func.count().filter(ArtifactRow.digest == UPLOADING)
        used = select(total(ArtifactRow.bytes), func.count(), uploading).where(own)
        stored, count, under_way = (await uow.session.execute(used)).one()
        if under_way >= self._limits.uploads_per_account:
            raise TooManyUploads(headers={"Retry-After": "1"})
        if attempt is not None and count >= ATTEMPT_FILES_MAX:
            raise ArtifactQuotaExceeded(f"An attempt may deliver {ATTEMPT_FILES_MAX} artifacts.")
        left = self._limits.artifact_quota_bytes - stored
        if announced is not None and announced > left:
            # It may be what is stored already, sent again since the answer was lost: one such at a time may come.
            same_size = select(func.count()).where(own, ArtifactRow.bytes == announced)
            if under_way or not (await uow.session.execute(same_size)).scalar_one():
                raise self._quota_exceeded()
        return left

    def _quota_exceeded(self) -> ArtifactQuotaExceeded:
        return ArtifactQuotaExceeded(f"Artifacts may take {self._limits.artifact_quota_bytes} bytes together.")

    async def _receive(self, file: IncomingFile, stream: AsyncIterator[bytes], reserved: int) -> None:
        waiting = bytearray()
        async for piece in stream:
            if file.size + len(waiting) + len(piece) > reserved:
                if reserved < self._limits.artifact_bytes_max:
                    raise self._quota_exceeded()
                raise ArtifactTooLarge(f"An artifact may have {reserved} bytes.")
            waiting += piece
            if len(waiting) >= PIECE_BYTES:
                await asyncio.to_thread(file.append, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.append, bytes(waiting))
        await asyncio.to_thread(file.finish)

    async def _note(self, room: Room, file: IncomingFile) -> Artifact:
        """Make an artifact of the upload, or of the same one that is there already; then move the file to its name."""
        owner, attempt, artifact = room.owner, room.attempt, room.artifact
        own, digest, at = _own(owner, attempt), file.digest, now()
        async with self._db.unit_of_work() as uow:
            await lock_name(uow, f"account {owner}")
            upload = ArtifactRow.id == artifact
            row = (
                await uow.session.scalars(select(ArtifactRow).where(own, ArtifactRow.digest == digest).limit(1))
            ).first()
            if row is None:
                used = select(total(ArtifactRow.bytes)).where(own, ~upload)
                stored = (await uow.session.execute(used)).scalar_one()
                if room.quota is not None and stored + file.size > room.quota:
                    raise self._quota_exceeded()
                row = await uow.session.get(ArtifactRow, artifact)
                if row is None:  # the clock was set so far ahead that a sweep took it for abandoned
                    row = ArtifactRow(id=artifact, account=owner, attempt=attempt)
                    uow.add(row)
                row.digest, row.bytes, row.created_at = digest, file.size, at
            else:
                await uow.session.execute(delete(ArtifactRow).where(upload))
            kept_until = at + timedelta(seconds=self._limits.artifact_retention_seconds)
            row.expires_at = kept_until if row.id == artifact else max(row.expires_at, kept_until)
            await uow.session.flush()
            await lock_name(uow, digest)
            await asyncio.to_thread(file.move_to, self._files.path_of(digest))
            return artifact_view(row)

    async def _cancel(self, artifact: str) -> None:
        """Give the room back; where that cannot be done now, a sweep does it."""
        try:
            async with self._db.unit_of_work() as uow:
                upload = (ArtifactRow.id == artifact, ArtifactRow.digest == UPLOADING)
                await uow.session.execute(delete(ArtifactRow).where(*upload))
        except AppError as error:
            log.warning("upload_not_cancelled", artifact=artifact, reason=error.message)

    async def _owner_of_lease(self, who: Principal, attempt: str) -> str:
        if not ids.is_id("att", attempt):
            raise LeaseLost
        live = (
            select(JobRow.account)
            .join(AttemptRow, AttemptRow.job == JobRow.id)
            .where(AttemptRow.id == attempt, AttemptRow.miner == who.subject, AttemptRow.ended.is_(None))
        )
        async with self._db.reading() as session:
            owner = (await session.execute(live)).scalar_one_or_none()
        if owner is None:
            raise LeaseLost
        return owner


async def _nothing() -> None:
    """Nothing is asked."""


def _upload(owner: str, attempt: str | None, size: int) -> ArtifactRow:
    """The row of an upload that begins."""
    row = ArtifactRow(id=ids.new_id("art"), account=owner, attempt=attempt, digest=UPLOADING, bytes=size)
    row.created_at = now()
    row.expires_at = row.created_at + LASTS
    return row


def _own(owner: str, attempt: str | None) -> ColumnElement[bool]:
    """The artifacts that count together: an account's own, or those that an attempt delivers."""
    if attempt is None:
        return (ArtifactRow.account == owner) & ArtifactRow.attempt.is_(None)
    return ArtifactRow.attempt == attempt

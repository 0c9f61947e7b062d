"""Artifacts: files too large for a row, kept on disk under the digest of their content.

The bytes are written aside while they arrive, then moved to their name and noted in the database under one advisory
lock of their digest. Removal takes the same lock, so a file that somebody else has just uploaded again is never taken
away from him. Replicas share the folder.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy import delete, func, select

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import StorageFailed, StorageFull
from aitbc.kernel.primitives.storage import storage_error
from aitbc.modules.ai.api import ArtifactNotFound
from aitbc.modules.ai.models.kinds.kind import Reference
from aitbc.modules.ai.models.tables import UPLOADING, ArtifactRow, AttemptRow, JobRow
from aitbc.modules.ai.models.views import Artifact, artifact_view
from aitbc.modules.ai.service.artifact_files import FOLDERS, ArtifactFiles
from aitbc.modules.ai.service.limits import Limits
from aitbc.modules.ai.service.rows import lock_name
from aitbc.modules.ai.service.uploads import Uploads

REMOVED_AT_ONCE = 200
FILE_MADE_WITHIN = timedelta(seconds=5)
"""So soon after room was reserved for an upload its file is there."""

log = structlog.get_logger("aitbc.ai.artifacts")


class Artifacts:
    """Stores, reads and removes artifacts."""

    def __init__(self, db: Database, limits: Limits, folder: Path) -> None:
        self._db = db
        self._files = ArtifactFiles(folder)
        self._uploads = Uploads(db, limits, self._files)
        self._next_folder = 0

    async def store(
        self, who: Principal, stream: AsyncIterator[bytes], attempt: str | None, announced: int | None = None
    ) -> Artifact:
        """Keep what the stream brings; see `Uploads.store`."""
        return await self._uploads.store(who, stream, attempt, announced)

    async def write(self, owner: str, stream: AsyncIterator[bytes]) -> Artifact:
        """Keep what the platform itself writes for an account; see `Uploads.write`."""
        return await self._uploads.write(owner, stream)

    async def pieces_of(self, artifact: str) -> Iterator[bytes]:
        """The content of an artifact in pieces, whoever owns it. Raises `ArtifactNotFound`."""
        async with self._db.reading() as session:
            row = await session.get(ArtifactRow, artifact)
        try:
            if row is None or row.digest == UPLOADING:
                raise ArtifactNotFound
            return self._files.pieces(row.digest)
        except FileNotFoundError:
            raise ArtifactNotFound from None

    async def slices_of(self, artifact: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Slices of the content of an artifact, by offset and length, whoever owns it. Raises `ArtifactNotFound`."""
        async with self._db.reading() as session:
            row = await session.get(ArtifactRow, artifact)
        if row is None or row.digest == UPLOADING:
            raise ArtifactNotFound
        try:
            return await asyncio.to_thread(self._files.read_slices, row.digest, places)
        except FileNotFoundError:
            raise ArtifactNotFound from None
        except OSError as error:
            raise storage_error(error) or error from error

    async def open(self, who: Principal, artifact: str) -> tuple[Artifact, Iterator[bytes]]:
        """An artifact and its content in pieces. Raises `ArtifactNotFound`."""
        row = await self._readable(who, artifact)
        try:
            return artifact_view(row), self._files.pieces(row.digest)
        except FileNotFoundError:
            raise ArtifactNotFound from None

    async def head_of(self, who: Principal, artifact: str, size: int) -> tuple[ArtifactRow, bytes]:
        """An artifact of the caller's own and its first bytes. Raises `ArtifactNotFound`."""
        row = await self._readable(who, artifact)
        return row, await self._read(row.digest, size)

    async def content_of(self, reference: Reference) -> bytes:
        """All of a file that a stored input refers to, with its digest and size. Raises `ArtifactNotFound`."""
        if reference.digest is None or reference.bytes is None:
            raise ArtifactNotFound
        return await self._read(reference.digest, reference.bytes)

    async def delivered(self, artifact: str, attempt: str) -> tuple[ArtifactRow, bytes] | None:
        """An artifact that was delivered under this very lease, with its content; none if it was not."""
        if not ids.is_id("art", artifact):
            return None
        async with self._db.reading() as session:
            row = await session.get(ArtifactRow, artifact)
        if row is None or row.attempt != attempt or row.digest == UPLOADING:
            return None
        return row, await self._read(row.digest, row.bytes)

    async def is_leased_to(self, miner: str, artifact: str) -> bool:
        """Whether a live lease of this miner refers to the artifact."""
        if not ids.is_id("art", artifact) or not ids.is_id("mnr", miner):
            return False
        refers = (
            select(AttemptRow.id)
            .join(JobRow, JobRow.id == AttemptRow.job)
            .where(AttemptRow.miner == miner, AttemptRow.ended.is_(None), func.strpos(JobRow.files, artifact) > 0)
            .limit(1)
        )
        async with self._db.reading() as session:
            return (await session.execute(refers)).scalar_one_or_none() is not None

    async def _readable(self, who: Principal, artifact: str) -> ArtifactRow:
        if not ids.is_id("art", artifact):
            raise ArtifactNotFound
        async with self._db.reading() as session:
            row = await session.get(ArtifactRow, artifact)
        if row is None or row.expires_at <= now() or row.digest == UPLOADING:
            raise ArtifactNotFound
        if who.subject is None and who.owns(row.account):
            return row
        if who.subject is not None and await self.is_leased_to(who.subject, artifact):
            return row
        raise ArtifactNotFound

    async def _read(self, digest: str, size: int) -> bytes:
        try:
            return await asyncio.to_thread(self._files.read, digest, size)
        except FileNotFoundError:
            raise ArtifactNotFound from None
        except OSError as error:
            raise storage_error(error) or error from error

    async def remove_expired(self) -> int:
        """Remove what is past its retention and no open job needs; answers how much was removed."""
        removed = 0
        edge = ids.encode("art", ids.decode("art", "art_" + "0" * 26))
        while True:
            rows = await self._expired(edge)
            for row in rows:
                edge = row.id
                with _logged("artifact_not_removed", artifact=row.id):  # one bad file is no reason to keep the others
                    removed += await self._remove(row)
            if len(rows) < REMOVED_AT_ONCE:
                return removed

    async def remove_abandoned(self) -> None:
        """Remove what uploads left that ended with their process, and free the room that they had reserved.

        Each time it also looks through one of the folders for content that no artifact has: its process died, or the
        database went away, when the file was moved and the artifact not yet committed.
        """
        with _logged("uploads_not_removed"):
            left = await asyncio.to_thread(self._files.remove_abandoned)
            await self._free_room([artifact for artifact in left if ids.is_id("art", artifact)])
        folder, self._next_folder = self._next_folder, (self._next_folder + 1) % FOLDERS
        with _logged("orphans_not_removed"):
            await self._remove_orphans(await asyncio.to_thread(self._files.names_in, folder))

    async def _free_room(self, removed: Sequence[str]) -> None:
        """Free what is reserved for uploads whose file was removed now, or before without its row.

        That is so where the database was away when an upload ended, or a process died between the two.
        """
        uploading = ArtifactRow.digest == UPLOADING
        async with self._db.reading() as session:
            without_file = ArtifactRow.id.in_(removed) | (ArtifactRow.created_at < now() - FILE_MADE_WITHIN)
            reserved = select(ArtifactRow.id).where(uploading, without_file)
            rows = list(await session.scalars(reserved))
        over = [row for row in rows if not await asyncio.to_thread(self._files.is_uploading, row)]
        if over:
            async with self._db.unit_of_work() as uow:
                await uow.session.execute(delete(ArtifactRow).where(ArtifactRow.id.in_(over), uploading))

    async def _remove_orphans(self, digests: Sequence[str]) -> None:
        if not digests:
            return
        async with self._db.reading() as session:
            kept = set(await session.scalars(select(ArtifactRow.digest).where(ArtifactRow.digest.in_(digests))))
        for digest in [digest for digest in digests if digest not in kept]:
            async with self._db.unit_of_work() as uow:
                await lock_name(uow, digest)
                await self._remove_if_unused(uow, digest)

    async def _expired(self, after: str) -> list[ArtifactRow]:
        old = (
            select(ArtifactRow)
            .where(ArtifactRow.expires_at <= now(), ArtifactRow.id > after)
            .order_by(ArtifactRow.id)
            .limit(REMOVED_AT_ONCE)
        )
        async with self._db.reading() as session:
            return list(await session.scalars(old))

    async def _remove(self, row: ArtifactRow) -> int:
        is_upload = row.digest == UPLOADING
        if is_upload and await asyncio.to_thread(self._files.is_uploading, row.id):
            return 0
        async with self._db.unit_of_work() as uow:
            needed = (
                select(JobRow.id)
                .where(JobRow.account == row.account, JobRow.completed_at.is_(None))
                .where(func.strpos(JobRow.files, row.id) > 0)
                .limit(1)
            )
            if (await uow.session.execute(needed)).scalar_one_or_none() is not None:
                return 0
            await lock_name(uow, row.digest)
            old = delete(ArtifactRow).where(ArtifactRow.id == row.id, ArtifactRow.expires_at <= now())
            await uow.session.execute(old.where(ArtifactRow.digest == row.digest))
            if not is_upload:
                await self._remove_if_unused(uow, row.digest)
        return 1

    async def _remove_if_unused(self, uow: UnitOfWork, digest: str) -> None:
        """Remove a content that no artifact has; under the lock of its digest."""
        others = select(func.count()).select_from(ArtifactRow).where(ArtifactRow.digest == digest)
        if (await uow.session.execute(others)).scalar_one() == 0:
            self._files.remove(digest)


@contextmanager
def _logged(event: str, **fields: str) -> Iterator[None]:
    """Log an error of the disk and go on: the next round tries again."""
    try:
        yield
    except (OSError, StorageFull, StorageFailed) as error:
        log.error(event, reason=repr(error), **fields)

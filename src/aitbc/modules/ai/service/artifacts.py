"""Artifacts: files too large for a row, kept on disk under the digest of their content.

The bytes are written aside while they arrive, then moved to their name and noted in the database under one advisory
lock of their digest. Removal takes the same lock, so a file that somebody else has just uploaded again is never taken
away from him. Replicas share the folder.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import delete, func, select, text

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden, TooLarge
from aitbc.modules.ai.api import ArtifactNotFound, LeaseLost
from aitbc.modules.ai.models.kinds.kind import Reference
from aitbc.modules.ai.models.tables import ArtifactRow, AttemptRow, JobRow
from aitbc.modules.ai.models.views import Artifact, artifact_view
from aitbc.modules.ai.service.settings import AiSettings

PIECE_BYTES = 1024 * 1024
ATTEMPT_FILES_MAX = 64
"""How many artifacts one attempt may deliver."""
REMOVED_AT_ONCE = 200


class ArtifactTooLarge(TooLarge):
    """The artifact is larger than allowed."""

    code = "artifact_too_large"


class ArtifactQuotaExceeded(TooLarge):
    """The artifacts of this account would take more room than it has."""

    code = "artifact_quota_exceeded"


class Artifacts:
    """Stores, reads and removes artifacts."""

    def __init__(self, db: Database, settings: AiSettings, folder: Path) -> None:
        self._db = db
        self._settings = settings
        self._folder = folder

    async def store(self, who: Principal, stream: AsyncIterator[bytes], attempt: str | None) -> Artifact:
        """Keep what the stream brings. A miner stores under a live lease of its own, on behalf of the job's owner.

        The same content again is the same artifact, kept for longer.
        Raises `ArtifactTooLarge`, `ArtifactQuotaExceeded`, `LeaseLost`, `Forbidden`.
        """
        if (who.subject is not None) != (attempt is not None):
            raise Forbidden("A miner's key stores artifacts under one of its leases, and only a miner's key does.")
        if attempt is not None:
            await self._owner_of_lease(who, attempt)  # refused before a single byte is taken
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=self._folder, prefix="incoming-")
        os.close(handle)
        aside = Path(name)
        try:
            digest, size = await self._receive(aside, stream)
            return await self._note(who, attempt, aside, digest, size)
        finally:
            await asyncio.to_thread(aside.unlink, missing_ok=True)

    async def _receive(self, aside: Path, stream: AsyncIterator[bytes]) -> tuple[str, int]:
        digest, size, waiting = hashlib.sha256(), 0, bytearray()
        with aside.open("wb") as file:
            async for piece in stream:
                size += len(piece)
                if size > self._settings.artifact_bytes_max:
                    raise ArtifactTooLarge(f"An artifact may have {self._settings.artifact_bytes_max} bytes.")
                waiting += piece
                if len(waiting) >= PIECE_BYTES:
                    await asyncio.to_thread(_append, file, digest, bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(_append, file, digest, bytes(waiting), last=True)
        return f"sha256:{digest.hexdigest()}", size

    async def _note(self, who: Principal, attempt: str | None, aside: Path, digest: str, size: int) -> Artifact:
        owner = who.account if attempt is None else await self._owner_of_lease(who, attempt)
        at = now()
        expires_at = at + timedelta(seconds=self._settings.artifact_retention_seconds)
        async with self._db.unit_of_work() as uow:
            await _lock(uow, f"account {owner}")
            same = select(ArtifactRow).where(ArtifactRow.digest == digest, ArtifactRow.account == owner)
            same = same.where(ArtifactRow.attempt.is_not_distinct_from(attempt)).limit(1)
            row = (await uow.session.execute(same)).scalar_one_or_none()
            if row is None:
                await self._require_room(uow, owner, attempt, size)
                row = ArtifactRow(id=ids.new_id("art"), account=owner, attempt=attempt, digest=digest, bytes=size)
                row.created_at = at
                uow.add(row)
            row.expires_at = expires_at
            await uow.session.flush()
            await _lock(uow, digest)
            path = self._path(digest)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            await asyncio.to_thread(_move, aside, path)
            return artifact_view(row)

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

    async def _require_room(self, uow: UnitOfWork, owner: str, attempt: str | None, size: int) -> None:
        mine = ArtifactRow.account == owner if attempt is None else ArtifactRow.attempt == attempt
        own = mine & ArtifactRow.attempt.is_(None) if attempt is None else mine
        used = select(func.coalesce(func.sum(ArtifactRow.bytes), 0), func.count()).where(own)
        total, count = (await uow.session.execute(used)).one()
        if int(total) + size > self._settings.artifact_quota_bytes:
            raise ArtifactQuotaExceeded(f"Artifacts may take {self._settings.artifact_quota_bytes} bytes together.")
        if attempt is not None and count >= ATTEMPT_FILES_MAX:
            raise ArtifactQuotaExceeded(f"An attempt may deliver {ATTEMPT_FILES_MAX} artifacts.")

    async def open(self, who: Principal, artifact: str) -> tuple[Artifact, Iterator[bytes]]:
        """An artifact and its content in pieces. Raises `ArtifactNotFound`."""
        row = await self._readable(who, artifact)
        try:
            file = self._path(row.digest).open("rb")
        except FileNotFoundError:
            raise ArtifactNotFound from None
        return artifact_view(row), _pieces(file)

    async def head_of(self, who: Principal, artifact: str, size: int) -> tuple[ArtifactRow, bytes]:
        """An artifact of the caller's own and its first bytes. Raises `ArtifactNotFound`."""
        row = await self._readable(who, artifact)
        return row, await asyncio.to_thread(self._read, row.digest, size)

    async def content_of(self, reference: Reference) -> bytes:
        """All of a file that a stored input refers to, with its digest and size. Raises `ArtifactNotFound`."""
        if reference.digest is None or reference.bytes is None:
            raise ArtifactNotFound
        return await asyncio.to_thread(self._read, reference.digest, reference.bytes)

    async def delivered(self, artifact: str, attempt: str) -> tuple[ArtifactRow, bytes] | None:
        """An artifact that was delivered under this very lease, with its content; none if it was not."""
        if not ids.is_id("art", artifact):
            return None
        async with self._db.reading() as session:
            row = await session.get(ArtifactRow, artifact)
        if row is None or row.attempt != attempt:
            return None
        return row, await asyncio.to_thread(self._read, row.digest, row.bytes)

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
        if row is None or row.expires_at <= now():
            raise ArtifactNotFound
        if who.subject is None and who.owns(row.account):
            return row
        if who.subject is not None and await self.is_leased_to(who.subject, artifact):
            return row
        raise ArtifactNotFound

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name

    def _read(self, digest: str, size: int) -> bytes:
        try:
            with self._path(digest).open("rb") as file:
                return file.read(size)
        except FileNotFoundError:
            raise ArtifactNotFound from None

    async def remove_expired(self) -> int:
        """Remove what is past its retention and no open job needs; answers how much was removed."""
        removed = 0
        edge = ids.encode("art", ids.decode("art", "art_" + "0" * 26))
        while True:
            rows = await self._expired(edge)
            for row in rows:
                edge = row.id
                removed += await self._remove(row)
            if len(rows) < REMOVED_AT_ONCE:
                return removed

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
        async with self._db.unit_of_work() as uow:
            needed = (
                select(JobRow.id)
                .where(JobRow.account == row.account, JobRow.completed_at.is_(None))
                .where(func.strpos(JobRow.files, row.id) > 0)
                .limit(1)
            )
            if (await uow.session.execute(needed)).scalar_one_or_none() is not None:
                return 0
            await _lock(uow, row.digest)
            old = delete(ArtifactRow).where(ArtifactRow.id == row.id, ArtifactRow.expires_at <= now())
            await uow.session.execute(old)
            others = select(func.count()).select_from(ArtifactRow).where(ArtifactRow.digest == row.digest)
            if (await uow.session.execute(others)).scalar_one() == 0:
                self._path(row.digest).unlink(missing_ok=True)
        return 1


def _append(file: BinaryIO, digest: "hashlib._Hash", piece: bytes, *, last: bool = False) -> None:
    digest.update(piece)
    file.write(piece)
    if last:
        file.flush()
        os.fsync(file.fileno())


def _move(aside: Path, path: Path) -> None:
    """Put the file under its name, and make the name as durable as the content."""
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES // 4):
            yield piece


async def _lock(uow: UnitOfWork, name: str) -> None:
    """One at a time for a name, until the end of this unit of work."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
    await uow.session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})

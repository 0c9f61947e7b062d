"""Files of public protocols: a name and a purpose for an artifact, kept until they are deleted or too old."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import delete, func, select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.modules.ai.api import ArtifactNotFound
from aitbc.modules.ai.models.batch_tables import BatchRow, FileRow
from aitbc.modules.ai.models.tables import UPLOADING, ArtifactRow
from aitbc.modules.ai.models.views import Artifact
from aitbc.modules.ai.service.rows import lock_name

FILES_MAX = 10_000
"""How many files an account may have."""
REMOVED_AT_ONCE = 1000


class FileNotFound(NotFound):
    """There is no such file, or it was deleted."""

    code = "file_not_found"


class FileInUse(Conflict):
    """A batch that has not ended reads this file; cancel the batch first."""

    code = "file_in_use"


class TooManyFiles(TooMany):
    """An account has at most 10,000 files; delete some."""

    code = "too_many_files"


class NewFile(Struct, frozen=True, kw_only=True):
    """A file whose content was uploaded."""

    name: str
    purpose: str
    keep_seconds: int | None
    """How long it is to be kept, where that was asked for; an artifact's retention is the most."""
    artifact: Artifact
    is_own: bool
    """Whether its artifact was made by this very upload."""


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file as its owner sees it."""

    id: str
    artifact: str
    name: str
    purpose: str
    bytes: int
    created_at: datetime
    expires_at: datetime


class Files:
    """Keeps, lists and deletes files."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def add(self, who: Principal, new: NewFile) -> StoredFile:
        """Keep a file under a name. Raises `TooManyFiles`, `ArtifactNotFound` where its content is gone already."""
        async with self._db.unit_of_work() as uow:
            await lock_name(uow, f"files {who.account}")
            held = select(func.count()).select_from(FileRow).where(FileRow.account == who.account)
            if (await uow.session.execute(held)).scalar_one() >= FILES_MAX:
                raise TooManyFiles
            return await add_file(uow, who.account, new)

    @retrying
    async def discard(self, artifact: Artifact) -> None:
        """Let go of content that was uploaded for a file which was then refused."""
        async with self._db.unit_of_work() as uow:
            await _let_go(uow, artifact.id, artifact.expires_at)

    async def get(self, who: Principal, file: str) -> StoredFile:
        """A file of the caller's own. Raises `FileNotFound`."""
        if not ids.is_id("file", file):
            raise FileNotFound
        async with self._db.reading() as session:
            row = await session.get(FileRow, file)
        if row is None or row.account != who.account or row.expires_at <= now():
            raise FileNotFound
        return _stored(row)

    async def page(
        self, who: Principal, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> Sequence[StoredFile]:
        """The caller's files after one of them, by the time at which they were made."""
        wanted = select(FileRow).where(FileRow.account == who.account, FileRow.expires_at > now())
        if purpose is not None:
            wanted = wanted.where(FileRow.purpose == purpose)
        if after is not None:
            wanted = wanted.where(FileRow.id < after if newest_first else FileRow.id > after)
        wanted = wanted.order_by(FileRow.id.desc() if newest_first else FileRow.id).limit(limit)
        async with self._db.reading() as session:
            return [_stored(row) for row in await session.scalars(wanted)]

    @retrying
    async def delete(self, who: Principal, file: str) -> None:
        """Delete a file and, if nothing else refers to it, its content. Raises `FileNotFound`, `FileInUse`."""
        if not ids.is_id("file", file):
            raise FileNotFound
        async with self._db.unit_of_work() as uow:
            row = await uow.find(FileRow, file, lock=True, missing=FileNotFound)
            if row.account != who.account or row.expires_at <= now():
                raise FileNotFound
            reading = select(BatchRow.id).where(BatchRow.ended_at.is_(None), BatchRow.input_artifact == row.artifact)
            if (await uow.session.scalars(reading.where(BatchRow.input_file == file).limit(1))).first() is not None:
                raise FileInUse
            await uow.session.execute(delete(FileRow).where(FileRow.id == file))
            if row.is_own:
                await _let_go(uow, row.artifact, row.kept_until)
            await uow.audit(who.account, who.key, "file.delete", file)

    async def remove_expired(self) -> None:
        """Remove the files that are too old; their artifacts go by themselves."""
        async with self._db.unit_of_work() as uow:
            old = select(FileRow.id).where(FileRow.expires_at <= now()).limit(REMOVED_AT_ONCE)
            await uow.session.execute(delete(FileRow).where(FileRow.id.in_(old)))


async def add_file(uow: UnitOfWork, account: str, new: NewFile) -> StoredFile:
    """Write a file's row. Raises `ArtifactNotFound`."""
    kept = select(ArtifactRow.expires_at).where(ArtifactRow.id == new.artifact.id, ArtifactRow.digest != UPLOADING)
    kept_until = (await uow.session.execute(kept.with_for_update(read=True))).scalar_one_or_none()
    if kept_until is None:
        raise ArtifactNotFound
    expires_at = kept_until
    if new.keep_seconds is not None:
        expires_at = min(kept_until, now() + timedelta(seconds=new.keep_seconds))
    of_same = FileRow.artifact == new.artifact.id, FileRow.is_own
    changed = update(FileRow).where(*of_same).values(kept_until=kept_until).returning(FileRow.id)
    is_shared = bool((await uow.session.execute(changed)).scalars().all())
    row = FileRow(
        id=ids.new_id("file"),
        account=account,
        artifact=new.artifact.id,
        name=new.name,
        purpose=new.purpose,
        bytes=new.artifact.bytes,
        is_own=new.is_own or is_shared,
        kept_until=kept_until,
        created_at=now(),
        expires_at=expires_at,
    )
    uow.add(row)
    await uow.session.flush()
    return _stored(row)


async def keep_until(uow: UnitOfWork, file: FileRow, until: datetime) -> None:
    """Keep a file and its content at least until then."""
    row = await uow.session.get(ArtifactRow, file.artifact, with_for_update={"key_share": True})
    if row is None:
        raise FileNotFound
    if row.expires_at < until:
        same = FileRow.artifact == file.artifact, FileRow.kept_until == row.expires_at
        await uow.session.execute(update(FileRow).where(*same).values(kept_until=until))
        row.expires_at = until
    file.expires_at = max(file.expires_at, until)


async def _let_go(uow: UnitOfWork, artifact: str, kept_until: datetime) -> None:
    """Have content removed at the next round, unless a file refers to it, or it was stored again by somebody else."""
    used = select(FileRow.id).where(FileRow.artifact == artifact).limit(1)
    if (await uow.session.scalars(used)).first() is None:
        alone = ArtifactRow.id == artifact, ArtifactRow.expires_at == kept_until, ArtifactRow.attempt.is_(None)
        await uow.session.execute(update(ArtifactRow).where(*alone).values(expires_at=now()))


def _stored(row: FileRow) -> StoredFile:
    return StoredFile(**{name: getattr(row, name) for name in StoredFile.__struct_fields__})

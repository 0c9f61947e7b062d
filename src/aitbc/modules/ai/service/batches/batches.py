"""Batches as their owners see them: made of a file, looked at, listed and cancelled."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec
from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.sql.elements import ColumnElement

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, NotFound, TooMany
from aitbc.modules.ai.models.batch_tables import BatchRow, FileRow
from aitbc.modules.ai.service.batches.views import Batch, batch_view
from aitbc.modules.ai.service.rows import lock_name
from aitbc.modules.ai.service.stored_files import FileNotFound, keep_until

OPEN_MAX = 100
"""How many batches of an account may be open at once."""
WINDOW = timedelta(hours=24)
FILES_KEPT = timedelta(hours=1)
"""How much longer than a batch may last its input is kept."""
REPEATED_WITHIN = timedelta(minutes=10)
"""For how long a request that its client says it repeats is held against those before it."""


class BatchNotFound(NotFound):
    """There is no such batch."""

    code = "batch_not_found"


class BatchOver(Conflict):
    """The batch has ended, or is about to: there is nothing to cancel."""

    code = "batch_over"


class InputRefused(Invalid):
    """The input of a batch is a file of yours with the purpose `batch`."""

    code = "batch_input_refused"


class TooManyBatches(TooMany):
    """An account has at most 100 open batches; wait until some have ended, or cancel them."""

    code = "too_many_batches"


class NewBatch(Struct, frozen=True, kw_only=True):
    """A batch to be made."""

    endpoint: str
    input_file: str
    output_seconds: int | None
    labels: Mapping[str, str] | None
    fingerprint: str
    """Of the request, by which a repetition of it is known."""
    is_repeated: bool
    """Whether the client says that it sent this before."""


class Batches:
    """Makes, shows, lists and cancels batches."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def create(self, who: Principal, new: NewBatch, once: IdempotencyKey) -> Batch:
        """Make a batch of a file: its lines are looked at and submitted from the next second on.

        Raises `InputRefused`, `TooManyBatches`, `IdempotencyKeyReused`.
        """
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Batch)) is not None:
                return earlier
            await lock_name(uow, f"batches {who.account}")
            if new.is_repeated and (row := await self._same(uow, who, new)) is not None:
                return await uow.answer(once, batch_view(row))
            file = await _input_of(uow, who, new.input_file)
            open_ones = select(func.count()).select_from(BatchRow).where(_open_of(who.account))
            if (await uow.session.execute(open_ones)).scalar_one() >= OPEN_MAX:
                raise TooManyBatches
            row = _row(who, new, file)
            await keep_until(uow, file, row.expires_at + FILES_KEPT)
            uow.add(row)
            await uow.audit(who.account, who.key, "batch.create", row.id)
            return await uow.answer(once, batch_view(row))

    async def _same(self, uow: UnitOfWork, who: Principal, new: NewBatch) -> BatchRow | None:
        lately = BatchRow.id >= ids.encode("batch", ids.lowest_uuid(now() - REPEATED_WITHIN))
        same = BatchRow.account == who.account, BatchRow.key == who.key, BatchRow.fingerprint == new.fingerprint
        newest = select(BatchRow).where(*same, lately).order_by(BatchRow.id.desc()).limit(1)
        return (await uow.session.scalars(newest)).first()

    async def get(self, who: Principal, batch: str) -> Batch:
        """A batch of the caller's own. Raises `BatchNotFound`."""
        if not ids.is_id("batch", batch):
            raise BatchNotFound
        async with self._db.reading() as session:
            row = await session.get(BatchRow, batch)
        if row is None or row.account != who.account:
            raise BatchNotFound
        return batch_view(row)

    async def page(self, who: Principal, *, after: str | None, limit: int) -> Sequence[Batch]:
        """The caller's batches from the newest on, up to `limit`, those before `after`."""
        wanted = select(BatchRow).where(BatchRow.account == who.account)
        if after is not None:
            wanted = wanted.where(BatchRow.id < after)
        async with self._db.reading() as session:
            return [batch_view(row) for row in await session.scalars(wanted.order_by(BatchRow.id.desc()).limit(limit))]

    @retrying
    async def cancel(self, who: Principal, batch: str) -> Batch:
        """Submit no more lines; what no miner has is cancelled, and what is worked on ends. Again changes nothing.

        Raises `BatchNotFound`, `BatchOver`.
        """
        if not ids.is_id("batch", batch):
            raise BatchNotFound
        async with self._db.unit_of_work() as uow:
            row = await uow.find(BatchRow, batch, lock=True, missing=BatchNotFound)
            if row.account != who.account:
                raise BatchNotFound
            if row.status in ("validating", "in_progress"):
                row.status, row.cancelling_at = "cancelling", now()
                await uow.audit(who.account, who.key, "batch.cancel", batch)
            elif row.status not in ("cancelling", "cancelled"):
                raise BatchOver(f"The batch is {row.status}: there is nothing to cancel.")
            return batch_view(row)


def _open_of(account: str) -> ColumnElement[bool]:
    return (BatchRow.account == account) & BatchRow.ended_at.is_(None)


async def _input_of(uow: UnitOfWork, who: Principal, file: str) -> FileRow:
    try:
        row = await uow.find(FileRow, file, lock=True, missing=FileNotFound)
    except FileNotFound:
        row = None
    if row is None or row.account != who.account or row.expires_at <= now():
        message = "There is no such file."
    elif row.purpose != "batch":
        message = f"Its purpose is {row.purpose}, not batch."
    else:
        return row
    raise InputRefused(message, fields=(FieldError("/input_file_id", message),))


def _row(who: Principal, new: NewBatch, file: FileRow) -> BatchRow:
    return BatchRow(
        id=ids.new_id("batch"),
        account=who.account,
        key=who.key,
        fingerprint=new.fingerprint,
        endpoint=new.endpoint,
        status="validating",
        input_file=file.id,
        input_artifact=file.artifact,
        output_seconds=new.output_seconds,
        labels=None if new.labels is None else msgspec.json.encode(new.labels).decode(),
        requests=0,
        completed=0,
        failed=0,
        spent_units=0,
        created_at=now(),
        expires_at=now() + WINDOW,
    )

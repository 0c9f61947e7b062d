"""What comes out of a batch: a file of answers and a file of errors, a line for each request, and the end of it all."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import JobNotFound
from aitbc.modules.ai.models.batch_tables import BatchLineRow, BatchRow
from aitbc.modules.ai.models.life import State
from aitbc.modules.ai.models.views import Artifact
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.batches.ends import publish_end
from aitbc.modules.ai.service.batches.formats import FORMATS
from aitbc.modules.ai.service.batches.intake import decode_line
from aitbc.modules.ai.service.batches.line_jobs import owner_of
from aitbc.modules.ai.service.settings import UPLOAD_BYTES_MAX
from aitbc.modules.ai.service.stored_files import NewFile, add_file
from aitbc.modules.ai.service.text_runs import Ended, TextRuns

PAGE = 50
ROOM_BYTES = 8 * 1024 * 1024
"""So much of a file's size is left for its last answers."""
OPEN = ("finalizing", "cancelling")
_encoder = msgspec.json.Encoder(enc_hook=str)


class Outputs:
    """Writes the files of batches, and ends them."""

    def __init__(self, db: Database, artifacts: Artifacts, text_runs: TextRuns) -> None:
        self._db = db
        self._artifacts = artifacts
        self._text_runs = text_runs

    async def write(self, batch: str) -> None:
        """Write the answers and the errors of a batch whose lines have ended, and end it.

        Done again after a crash it writes the same files, which are the same artifacts.
        """
        async with self._db.reading() as session:
            row = await session.get_one(BatchRow, batch)
        untold: set[int] = set()
        answers = await self._artifacts.write(row.account, self._answers(row, untold)) if row.completed else None
        has_errors = row.requests > row.completed or untold
        errors = await self._artifacts.write(row.account, self._errors(row, untold)) if has_errors else None
        await self._end(row, None if len(untold) == row.completed else answers, errors, len(untold))

    async def _answers(self, batch: BatchRow, untold: set[int]) -> AsyncIterator[bytes]:
        """A line for each job that succeeded; the lines whose answers cannot be told go into `untold`."""
        size = 0
        async for lines in self._pages(batch, ("done",)):
            for row, content, ended in await self._found(batch, lines):
                told = None
                if ended is not None and ended.output is not None and size < UPLOAD_BYTES_MAX - ROOM_BYTES:
                    body = FORMATS[batch.endpoint].answer(bytes(decode_line(content).body), ended)
                    told = _line(batch, row, 200, body)
                if told is None:
                    untold.add(row.line)
                else:
                    size += len(told)
                    yield told

    async def _errors(self, batch: BatchRow, untold: set[int]) -> AsyncIterator[bytes]:
        """A line for each request that came to nothing, and for each whose answer cannot be told."""
        verdict = _verdict(batch)
        async for lines in self._pages(batch, ("waiting", "failed", *(("done",) if untold else ()))):
            for row, _, ended in await self._found(batch, [row for row in lines if _is_error(row, untold)]):
                if row.error is not None and row.error_status is not None:
                    yield _line(batch, row, row.error_status, msgspec.Raw(row.error.encode()))
                elif row.state == "waiting" or (verdict != "completed" and _is_given_up(ended)):
                    yield _line(batch, row, None, _BATCH_ERRORS.get(verdict, _BATCH_ERRORS["cancelled"]))
                elif ended is None or row.state == "done":
                    yield _line(
                        batch, row, None, {"code": "answer_gone", "message": f"Its answer is that of {row.job}."}
                    )
                else:
                    status, body = FORMATS[batch.endpoint].error(FORMATS[batch.endpoint].refusal(ended))
                    yield _line(batch, row, status, msgspec.Raw(body))

    async def _pages(self, batch: BatchRow, states: Sequence[str]) -> AsyncIterator[Sequence[BatchLineRow]]:
        """The lines of a batch in these states, in the order of the file."""
        after = 0
        while True:
            these = BatchLineRow.batch == batch.id, BatchLineRow.state.in_(states), BatchLineRow.line > after
            async with self._db.reading() as session:
                lines = (
                    await session.scalars(select(BatchLineRow).where(*these).order_by(BatchLineRow.line).limit(PAGE))
                ).all()
            if not lines:
                return
            yield lines
            after = lines[-1].line

    async def _found(
        self, batch: BatchRow, lines: Sequence[BatchLineRow]
    ) -> list[tuple[BatchLineRow, bytes, Ended | None]]:
        """Lines with what they asked and how their jobs ended; none of a line without a job, or whose job is gone."""
        places = [(row.position, row.bytes) if row.state == "done" else (0, 0) for row in lines]
        contents = await self._artifacts.slices_of(batch.input_artifact, places)
        ended = await asyncio.gather(*(self._ended(batch, row) for row in lines))
        return list(zip(lines, contents, ended, strict=True))

    async def _ended(self, batch: BatchRow, row: BatchLineRow) -> Ended | None:
        if row.job is None:
            return None
        try:
            return await self._text_runs.found(owner_of(batch), row.job)
        except JobNotFound:
            return None

    @retrying
    async def _end(self, batch: BatchRow, answers: Artifact | None, errors: Artifact | None, untold: int) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(BatchRow, batch.id, lock=True)
            if row.status not in OPEN:
                return
            for artifact, field in ((answers, "output_file"), (errors, "error_file")):
                if artifact is not None:
                    name = f"{batch.id}_{field.removesuffix('_file')}.jsonl"
                    new = NewFile(
                        name=name,
                        purpose="batch_output",
                        keep_seconds=row.output_seconds,
                        artifact=artifact,
                        is_own=True,
                    )
                    setattr(row, field, (await add_file(uow, row.account, new)).id)
            row.completed -= untold
            row.failed = row.requests - row.completed
            row.status, row.ended_at = _verdict(batch), now()
            await uow.session.execute(delete(BatchLineRow).where(BatchLineRow.batch == batch.id))
            publish_end(uow, row)


_BATCH_ERRORS: dict[str, dict[str, Any]] = {
    "expired": {
        "code": "batch_expired",
        "message": "The batch was over before this request was done; it cost nothing.",
    },
    "cancelled": {"code": "batch_cancelled", "message": "The batch was cancelled before this request was done."},
}


def _verdict(batch: BatchRow) -> str:
    """How a batch ends whose lines have ended."""
    if batch.cancelling_at is not None:
        return "cancelled"
    is_late = batch.finalizing_at is not None and batch.finalizing_at >= batch.expires_at
    return "expired" if is_late and batch.completed < batch.requests else "completed"


def _is_error(row: BatchLineRow, untold: set[int]) -> bool:
    return row.state != "done" or row.line in untold


def _is_given_up(ended: Ended | None) -> bool:
    return ended is not None and ended.job.state in (State.CANCELED, State.EXPIRED)


def _line(batch: BatchRow, row: BatchLineRow, status: int | None, body: Any) -> bytes:
    """A line of a file: with an answer of the endpoint, or with an error of the batch where there is no status."""
    response = (
        None if status is None else {"status_code": status, "request_id": row.job or row_id(batch, row), "body": body}
    )
    told = {"id": row_id(batch, row), "custom_id": row.custom_id, "response": response}
    return _encoder.encode(told | {"error": body if status is None else None}) + b"\n"


def row_id(batch: BatchRow, row: BatchLineRow) -> str:
    """The name of a request of a batch."""
    return f"batch_req_{batch.id.removeprefix('batch_')}_{row.line}"

"""The intake of a batch: its file is read line by line, and what is wrong with a line is noted at that line alone."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.crypto.api_key import masked
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid, Malformed
from aitbc.kernel.primitives.text import normalized
from aitbc.modules.ai.api import ArtifactNotFound
from aitbc.modules.ai.models.batch_tables import BatchLineRow, BatchRow
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.batches.ends import publish_end
from aitbc.modules.ai.service.batches.formats import CUSTOM_ID_MAX, FORMATS, LINE_BYTES_MAX, Line
from aitbc.modules.ai.service.batches.views import BatchFault, faults_text

LINES_MAX = 50_000
AT_ONCE = 500
"""How many lines are looked at and written together."""
_decoder = msgspec.json.Decoder(Line)


class LineRefused(Invalid):
    """This line is no request that the batch can make."""

    code = "line_refused"


class Piece(Struct, frozen=True):
    """A line that is not blank, as it lies in the file."""

    number: int
    """From 1, blank lines counted."""
    position: int
    size: int
    content: bytes | None
    """None of one that is longer than a line may be."""


class Intake:
    """Reads the input of batches."""

    def __init__(self, db: Database, artifacts: Artifacts) -> None:
        self._db = db
        self._artifacts = artifacts

    async def read(self, batch: BatchRow) -> None:
        """Note every line of a batch, and begin with it. A batch of no lines, or of too many, fails as a whole.

        Done again after a crash it writes the same.
        """
        try:
            lines = pieces_of(await self._artifacts.pieces_of(batch.input_artifact))
        except ArtifactNotFound:
            await self._end(batch.id, BatchFault(code="file_not_found", message="The input file is gone."))
            return
        seen: set[str] = set()
        models: set[str | None] = set()
        count = bad = 0
        while found := await asyncio.to_thread(_look_at_some, lines, batch.endpoint, seen):
            rows = [{"batch": batch.id} | row for row, _ in found]
            count += len(rows)
            bad += sum(row["state"] == "failed" for row in rows)
            models |= {model for row, model in found if row["state"] != "failed"}
            if count > LINES_MAX:
                break
            await self._note(rows)
        if 0 < count <= LINES_MAX:
            await self._begin(batch.id, count, bad, models.pop() if len(models) == 1 else None)
            return
        what = "has no lines" if not count else f"has more than {LINES_MAX} lines"
        code = "empty_file" if not count else "too_many_lines"
        await self._end(batch.id, BatchFault(code=code, message=f"The input file {what}.", param="input_file_id"))

    @retrying
    async def _note(self, rows: list[dict[str, Any]]) -> None:
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(upsert(BatchLineRow).on_conflict_do_nothing(), rows)

    @retrying
    async def _begin(self, batch: str, requests: int, failed: int, model: str | None) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(BatchRow, batch, lock=True)
            if row.status in ("validating", "cancelling"):
                row.requests, row.failed, row.model = requests, failed, model
            if row.status == "validating":
                row.status, row.in_progress_at = "in_progress", now()

    @retrying
    async def _end(self, batch: str, fault: BatchFault) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(BatchRow, batch, lock=True)
            if row.status != "validating":
                return
            row.status, row.ended_at, row.errors = "failed", now(), faults_text(fault)
            await uow.session.execute(delete(BatchLineRow).where(BatchLineRow.batch == batch))
            publish_end(uow, row)


def pieces_of(content: Iterator[bytes]) -> Iterator[Piece]:
    """The lines of a content that are not blank; of one that is too long no more is held than a line may have."""
    number = position = size = 0
    held = bytearray()

    def line() -> Piece:
        whole = bytes(held) if size <= LINE_BYTES_MAX else None
        return Piece(number, position, size, whole)

    for piece in content:
        *ended, rest = piece.split(b"\n")
        for text in ended:
            size += len(text)
            held += text[: max(LINE_BYTES_MAX + 1 - len(held), 0)]
            number += 1
            if size > LINE_BYTES_MAX or held.strip():
                yield line()
            position += size + 1
            size = 0
            held.clear()
        size += len(rest)
        held += rest[: max(LINE_BYTES_MAX + 1 - len(held), 0)]
    if size:
        number += 1
        if size > LINE_BYTES_MAX or held.strip():
            yield line()


def _look_at_some(lines: Iterator[Piece], endpoint: str, seen: set[str]) -> list[tuple[dict[str, Any], str | None]]:
    return [_look_at(piece, endpoint, seen) for piece in islice(lines, AT_ONCE)]


def _look_at(piece: Piece, endpoint: str, seen: set[str]) -> tuple[dict[str, Any], str | None]:
    """The row of a line, and the model that it asks for."""
    row: dict[str, Any] = {"line": piece.number, "position": piece.position, "bytes": piece.size, "custom_id": None}
    row |= {"state": "waiting", "job": None, "error_status": None, "error": None}
    model = None
    try:
        if piece.content is None:
            raise _refused("", f"A line may have {LINE_BYTES_MAX} bytes; this one has {piece.size}.")
        line = decode_line(piece.content)
        row["custom_id"] = str(masked(line.custom_id))[:CUSTOM_ID_MAX]
        _require(line, endpoint, seen)
        model = FORMATS[endpoint].read(bytes(line.body)).input.get("model")
    except AppError as error:
        status, body = FORMATS[endpoint].error(error)
        row |= {"state": "failed", "error_status": status, "error": body.decode()}
    return row, model


def _require(line: Line, endpoint: str, seen: set[str]) -> None:
    """Raises `LineRefused` for a line that the batch cannot send."""
    if not 0 < len(line.custom_id) <= CUSTOM_ID_MAX:
        raise _refused("/custom_id", f"A custom_id has 1 to {CUSTOM_ID_MAX} characters.")
    if line.custom_id in seen:
        raise _refused("/custom_id", "Another line before this one has the same custom_id.")
    seen.add(line.custom_id)
    if line.method != "POST":
        raise _refused("/method", "The method must be POST.")
    if line.url != endpoint:
        raise _refused("/url", f"The url must be the endpoint of the batch, {endpoint}.")


def decode_line(content: bytes) -> Line:
    """A line by its bytes. Raises `LineRefused`."""
    try:
        line: Line = normalized(_decoder.decode(content), Line)
    except msgspec.ValidationError as error:
        raise _refused("", str(error)[:500]) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _refused("", "This line is no JSON.") from None
    except (Invalid, Malformed) as error:
        raise _refused("", error.message) from None
    return line


def _refused(pointer: str, message: str) -> LineRefused:
    return LineRefused(message, fields=(FieldError(pointer, message),) if pointer else ())

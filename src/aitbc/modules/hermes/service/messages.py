"""Messages to places outside: sent at least once, in the order of their queue, given up after too many tries."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from aitbc.kernel.crypto.sealing import Sealer, Unsealable
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.hooks.remote import Reply
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.platform import Egress, Unreachable
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.modules.hermes.models.tables import MessageRow, RunRow
from aitbc.modules.hermes.service.settings import HermesSettings

ATTEMPTS_MAX = 10
BACKOFF_SECONDS_MAX = 300
PAGE = 50
PURPOSE = "hermes.headers"
PASSING = frozenset({408, 425, 429})
"""Refusals that may pass; any other 4xx will be the same next time."""


class AgentMessageNotFound(NotFound):
    """There is no such message that was given up."""

    code = "agent_message_not_found"


class AgentMessages:
    """Sends what is queued."""

    def __init__(self, db: Database, egress: Egress | None, sealer: Sealer, settings: HermesSettings) -> None:
        self._db = db
        self._egress = egress
        self._sealer = sealer
        self._settings = settings

    def sealed(self, headers: Mapping[str, str]) -> bytes:
        """Headers as a row keeps them."""
        return self._sealer.seal(msgspec.json.encode(headers))

    @retrying
    async def queue(self, run: RunRow, identity: str, url: str, body: str, headers: Mapping[str, str]) -> None:
        """Queue a message whose answer matters, once for each id."""
        values = message_values(run, identity, f"{run.agent}:{run.context}", url, body, self.sealed(headers))
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(
                insert(MessageRow).values(**values | {"keeps_answer": True}).on_conflict_do_nothing()
            )

    async def read(self, identity: str) -> MessageRow | None:
        """A message as it is now."""
        async with self._db.reading() as session:
            return (await session.scalars(select(MessageRow).where(MessageRow.id == identity))).one_or_none()

    @retrying
    async def withdraw(self, identity: str) -> None:
        """Give up a message that was not sent yet."""
        waiting = update(MessageRow).where(MessageRow.id == identity, MessageRow.state == "queued")
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(waiting.values(state="dead", error="withdrawn", ended_at=now()))

    async def send_due(self) -> None:
        """Send the first message of each queue, where its time has come, until none is left or one fails."""
        for _ in range(PAGE):
            if not await self._db.is_any("hermes.messages WHERE state = 'queued' AND due_at <= $1", now()):
                return
            first = (
                select(MessageRow)
                .ext(distinct_on(MessageRow.queue))
                .where(MessageRow.state == "queued")
                .order_by(MessageRow.queue, MessageRow.sequence)
                .subquery()
            )
            due = select(first.c.sequence).where(first.c.due_at <= now()).order_by(first.c.due_at).limit(PAGE)
            async with self._db.reading() as session:
                numbers = (await session.scalars(due)).all()
            if not numbers:
                return
            for number in numbers:
                await self._send(number)

    async def _send(self, number: int) -> None:
        async with self._db.reading() as session:
            row = await session.get_one(MessageRow, number)
        try:
            answer = await self._fetch(row)
        except (Unreachable, AppError) as refusal:
            await self._note_failure(row, str(refusal), is_final=False)
            return
        if 200 <= answer.status < 300:
            await self._end(
                row,
                "sent",
                "",
                answer.body.decode(errors="replace").replace("\x00", "\ufffd") if row.keeps_answer else None,
            )
        else:
            is_final = 400 <= answer.status < 500 and answer.status not in PASSING
            await self._note_failure(row, f"it answers {answer.status}", is_final=is_final)

    async def _fetch(self, row: MessageRow) -> Reply:
        if self._egress is None:
            raise Unreachable("this process sends nothing outside")
        try:
            headers = msgspec.json.decode(self._sealer.unseal(row.headers), type=dict[str, str])
        except Unsealable:
            raise Unreachable("its secrets were sealed under another secret of this installation") from None
        return await self._egress.fetch(row.url, self._settings.call_seconds, body=row.body.encode(), headers=headers)

    async def _note_failure(self, row: MessageRow, error: str, *, is_final: bool) -> None:
        if is_final or row.attempts + 1 >= ATTEMPTS_MAX:
            await self._end(row, "dead", error, None)
            return
        pause = min(2**row.attempts, BACKOFF_SECONDS_MAX)
        await self._write(row, attempts=row.attempts + 1, error=error[:500], due_at=now() + timedelta(seconds=pause))

    async def _end(self, row: MessageRow, state: str, error: str, answer: str | None) -> None:
        await self._write(row, state=state, attempts=row.attempts + 1, error=error[:500], answer=answer, ended_at=now())

    @retrying
    async def _write(self, row: MessageRow, **values: object) -> None:
        same = (MessageRow.sequence == row.sequence, MessageRow.state == "queued", MessageRow.attempts == row.attempts)
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(update(MessageRow).where(*same).values(**values))
            if row.keeps_answer and "ended_at" in values:
                waiting = update(RunRow).where(RunRow.id == row.run, RunRow.ended_at.is_(None))
                await uow.session.execute(waiting.values(due_at=now()))

    async def dead(self, who: Principal, limit: int, before: int | None) -> Sequence[MessageRow]:
        """The messages of the caller's runs that were given up, from the newest on."""
        found = select(MessageRow).where(MessageRow.account == who.account, MessageRow.state == "dead")
        if before is not None:
            found = found.where(MessageRow.sequence < before)
        async with self._db.reading() as session:
            return (await session.scalars(found.order_by(MessageRow.sequence.desc()).limit(limit))).all()

    @retrying
    async def send_again(self, who: Principal, identity: str) -> MessageRow:
        """Queue a message that was given up once more, at its old place. Raises `AgentMessageNotFound`."""
        mine = (MessageRow.id == identity, MessageRow.account == who.account)
        async with self._db.unit_of_work() as uow:
            row = (await uow.session.scalars(select(MessageRow).where(*mine).with_for_update())).one_or_none()
            if row is None or row.keeps_answer:  # the step that waited for an answer has failed long since
                raise AgentMessageNotFound
            if row.state == "dead":
                row.state, row.attempts, row.due_at, row.ended_at = "queued", 0, now(), None
            return row

    async def tidy(self, kept_days: int) -> None:
        """Remove what was sent or given up more than so many days ago."""
        edge = now() - timedelta(days=kept_days)
        old = delete(MessageRow).where(MessageRow.state != "queued", MessageRow.ended_at < edge)
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(old)

    async def count_queued(self) -> int:
        """How many messages wait."""
        waiting = select(func.count()).select_from(MessageRow).where(MessageRow.state == "queued")
        async with self._db.reading() as session:
            return await session.scalar(waiting) or 0


def message_values(run: RunRow, identity: str, queue: str, url: str, body: str, headers: bytes) -> dict[str, object]:
    """The row of a message that is queued now."""
    at = now()
    return {
        "id": identity,
        "queue": queue,
        "account": run.account,
        "run": run.id,
        "url": url,
        "body": body,
        "headers": headers,
        "state": "queued",
        "attempts": 0,
        "due_at": at,
        "error": "",
        "answer": None,
        "keeps_answer": False,
        "created_at": at,
        "ended_at": None,
    }


async def queue_pushes(uow: UnitOfWork, values: Sequence[dict[str, object]]) -> None:
    """Queue messages in the transaction of what they tell."""
    if values:
        await uow.session.execute(insert(MessageRow), values)

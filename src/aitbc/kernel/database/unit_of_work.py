"""Units of work: a module's database role, its connection pools, and transactions with visible boundaries."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct
from sqlalchemy import Dialect, Table, Uuid, insert, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.event import listen
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from aitbc.kernel.database.connect import connect
from aitbc.kernel.database.idempotency import IdempotencyKey, IdempotencyKeyReused
from aitbc.kernel.database.outbox import Event, outbox_values
from aitbc.kernel.database.pipeline import Transaction
from aitbc.kernel.database.raw_pool import Connection as Connection
from aitbc.kernel.database.raw_pool import RawPool
from aitbc.kernel.database.row_changes import RecordingSession, changes_of
from aitbc.kernel.database.sql_errors import translate, translate_commit
from aitbc.kernel.database.target import Target as Target
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.kernel.primitives.request_id import current_request_id

Row = TypeVar("Row", bound=DeclarativeBase)
Answer = TypeVar("Answer", bound=Struct)

NAME_REQUEST = text("SELECT set_config('application_name', :name, true)")
"""Shows the request id of a transaction in pg_stat_activity, and as %a in the server's log."""
open_transaction: ContextVar[str | None] = ContextVar("open_transaction", default=None)
"""The module whose transaction is open in this task; calls to other modules are refused meanwhile."""


class WireId(TypeDecorator[str]):
    """A UUID column whose Python value is the id's text form: `WireId("job")`."""

    impl = Uuid
    cache_ok = True

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def process_bind_param(self, value: str | None, dialect: Dialect) -> UUID | None:
        """Text form to UUID."""
        return None if value is None else ids.decode(self.prefix, value)

    def process_result_value(self, value: UUID | None, dialect: Dialect) -> str | None:
        """UUID to text form."""
        return None if value is None else ids.encode(self.prefix, value)


class UnitOfWork:
    """One transaction of one module: its rows, events, audit entries and answer commit together or not at all."""

    def __init__(self, session: AsyncSession, tables: dict[str, Table]) -> None:
        self.session = session
        self.published: list[Event] = []
        self._audited: list[dict[str, Any]] = []
        self._tables = tables
        self._once: IdempotencyKey | None = None

    def add(self, row: DeclarativeBase) -> None:
        """Add a new row; it is written at the next query, or at the end."""
        self.session.add(row)

    async def find(
        self, row: type[Row], identity: str, *, lock: bool = False, missing: type[NotFound] = NotFound
    ) -> Row:
        """The row with this id, locked FOR NO KEY UPDATE if asked; raises `missing` for an unknown or malformed id."""
        try:
            found = await self.session.get(row, identity, with_for_update={"key_share": True} if lock else None)
        except ids.MalformedId:
            raise missing from None
        except Exception as error:
            if isinstance(error.__cause__, ids.MalformedId) or isinstance(
                getattr(error, "orig", None), ids.MalformedId
            ):
                raise missing from None
            raise
        if found is None:
            raise missing
        return found

    def publish(self, event: Event) -> None:
        """Publish an event when this unit of work commits: it is written to the outbox in the same transaction."""
        self.published.append(event)

    async def audit(self, account: str, key: str, action: str, target: str, **details: Any) -> None:
        """Write an audit entry in the same transaction: who did what to what.

        It is written at the end, with what was `before` and `after` in the row of that id, unless `details` say that.
        """
        values = {"at": now(), "account": account, "key": key, "action": action, "object": target, "details": details}
        self._audited.append({**values, "request_id": current_request_id()})

    async def write_audit(self) -> None:
        """Write the audit entries; called once, when everything else is done."""
        if not self._audited:
            return
        for entry in self._audited:
            changed = changes_of(self.session.sync_session, entry["object"])
            entry["details"] = {**changed, **entry["details"]}
        await self.session.execute(insert(self._tables["audit"]), self._audited)

    async def replay(self, once: IdempotencyKey, answer: type[Answer]) -> Answer | None:
        """The stored answer of an earlier request with this Idempotency-Key; none when this is the first. See `answer`.

        Waits for the same request in another process, if that is still running. Raises `IdempotencyKeyReused` when the
        earlier request was a different one.
        """
        if once.key is None:
            return None
        answers = self._tables["answers"]
        claim = (
            upsert(answers)
            .values(account=once.account, key=once.key, fingerprint=once.fingerprint, created_at=now())
            .on_conflict_do_nothing()
            .returning(answers.c.key)
        )
        if (await self.session.execute(claim)).scalar_one_or_none() is not None:
            self._once = once
            return None
        where = (answers.c.account == once.account, answers.c.key == once.key)
        stored = (await self.session.execute(answers.select().where(*where))).one_or_none()
        if stored is None or stored.fingerprint != once.fingerprint:
            raise IdempotencyKeyReused
        once.replayed = True
        return msgspec.json.decode(stored.body, type=answer)

    async def answer(self, once: IdempotencyKey, answer: Answer) -> Answer:
        """Store the answer of a first request in its transaction; returns it."""
        if once.key is not None:
            answers = self._tables["answers"]
            where = (answers.c.account == once.account, answers.c.key == once.key)
            body = msgspec.json.encode(answer).decode()
            await self.session.execute(update(answers).where(*where).values(body=body))
        return answer


class Database:
    """One module's access to its schema, as its role: a small pool for units of work, and one of raw connections."""

    def __init__(
        self,
        module: str,
        target: Target,
        tables: Sequence[Table],
        *,
        pool_size: int = 3,
        acquire_seconds: float = 2.0,
        statement_seconds: float = 5.0,
    ) -> None:
        self.module = module
        self.target = target
        self._tables = {table.name: table for table in tables if table.name in ("outbox", "inbox", "answers", "audit")}
        self._arguments = target.connect_arguments(application=f"aitbc {module}", statement_seconds=statement_seconds)
        self._acquire_seconds = acquire_seconds
        self._pool_size = pool_size
        self._raw_pool: RawPool | None = None
        self._publish_callbacks: list[Callable[[], None]] = []
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: connect(self._arguments),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=acquire_seconds,
            pool_pre_ping=False,
            pool_use_lifo=True,
            hide_parameters=True,  # keeps values out of exceptions, and so out of logs
        )
        listen(self.engine.sync_engine, "checkout", _reconnect_closed)
        self._reading_engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def on_publish(self, wake: Callable[[], None]) -> None:
        """Call this after every commit that published an event; it wakes the relay."""
        self._publish_callbacks.append(wake)

    def notify_published(self) -> None:
        """Call the `on_publish` callbacks: a command on a raw connection has committed an event."""
        for wake in self._publish_callbacks:
            wake()

    @asynccontextmanager
    async def unit_of_work(self) -> AsyncIterator[UnitOfWork]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        with self._sole_transaction():
            session = AsyncSession(
                self.engine, sync_session_class=RecordingSession, expire_on_commit=False, autoflush=True
            )
            try:
                uow = UnitOfWork(session, self._tables)
                if (request := current_request_id()) is not None:
                    await session.execute(NAME_REQUEST, {"name": f"aitbc {self.module} {request}"[:63]})
                yield uow
                await uow.write_audit()
                if uow.published:
                    await session.execute(insert(self._tables["outbox"]), outbox_values(uow.published))
                await session.flush()
                await self._commit(session)
            except BaseException as error:
                await self._roll_back(session)
                translated = translate(error)
                if translated is not None:
                    raise translated from error
                raise
            finally:
                await session.close()
        if uow.published:
            self.notify_published()

    async def _commit(self, session: AsyncSession) -> None:
        try:
            await session.commit()
        except Exception as error:
            if getattr(getattr(error, "orig", error), "sqlstate", None) is None:
                await session.invalidate()  # it may still be inside the transaction
            raise translate_commit(error) or error from error

    async def _roll_back(self, session: AsyncSession) -> None:
        try:
            await session.rollback()
        except Exception:  # noqa: BLE001
            await session.invalidate()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reads, in autocommit: without the round trips of BEGIN and COMMIT."""
        session = AsyncSession(self._reading_engine, expire_on_commit=False)
        try:
            yield session
        except Exception as error:
            translated = translate(error)
            if translated is not None:
                raise translated from error
            raise
        finally:
            await session.close()

    @asynccontextmanager
    async def raw(self, *, writes: bool = False) -> AsyncIterator[Connection]:
        """A raw asyncpg connection in autocommit, for set-based statements.

        A statement that is given up (cancelled, or past its time) is cancelled at the server too. With `writes`, a
        connection lost in the middle raises `OutcomeUnknown`: its statement may be committed.
        """
        pool = self._raw()
        try:
            connection = await pool.acquire(self._acquire_seconds)
        except Exception as error:
            raise translate(error) or error from error
        try:
            yield connection
        except BaseException as error:
            if _is_broken(error):  # its protocol state is unknown
                await pool.discard(connection)
            translated = translate_commit(error) if writes else translate(error)
            if translated is not None:
                raise translated from error
            raise
        finally:
            pool.release(connection)

    async def is_any(self, rows: str, *values: Any) -> bool:
        """Whether there are such rows (a table and a condition): periodic tasks ask before they look for their work."""
        async with self.raw() as connection:
            return bool(await connection.fetchval(f"SELECT EXISTS (SELECT FROM {rows})", *values))  # noqa: S608

    @asynccontextmanager
    async def raw_transaction(self) -> AsyncIterator[Connection]:
        """A transaction on a raw connection; a connection lost while committing raises `OutcomeUnknown`.

        It begins with its first statement, and ends with the block unless a `WriteBatch` has committed it before.
        """
        with self._sole_transaction():
            async with self.raw() as connection:
                transaction = Transaction(connection)
                try:
                    await transaction.begin()
                    yield connection
                    await transaction.commit()
                except BaseException as error:
                    if not transaction.is_committing:
                        await transaction.roll_back()
                        raise
                    if getattr(error, "sqlstate", None) is None:
                        await self._raw().discard(connection)  # it may still be inside the transaction
                    else:
                        await transaction.roll_back()
                    raise translate_commit(error) or error from error

    @asynccontextmanager
    async def listener(self) -> AsyncIterator[Connection]:
        """A dedicated connection outside of the pools: for LISTEN, and for advisory locks that are held long."""
        try:
            connection = await connect(self._arguments)
        except Exception as error:
            raise translate(error) or error from error
        try:
            yield connection
        finally:
            await connection.close(timeout=2)

    def _raw(self) -> RawPool:
        """The raw pool, made when it is first needed."""
        if self._raw_pool is None:
            self._raw_pool = RawPool(self._arguments, self._pool_size)
        return self._raw_pool

    def _sole_transaction(self) -> "_SoleTransaction":
        return _SoleTransaction(self.module)

    async def close(self) -> None:
        """Close both pools."""
        if self._raw_pool is not None:
            await self._raw_pool.close()
        await self.engine.dispose()


def _is_broken(error: BaseException) -> bool:
    """Whether a connection must not be reused: the driver, not the server, raised the error, or we were cancelled."""
    if isinstance(error, AppError):
        return False
    driver = isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError))
    return driver or not isinstance(error, Exception)


def _reconnect_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Make the pool reconnect where the server has closed an idle connection; the check costs no round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


class _SoleTransaction:
    """Marks the task as inside a transaction and refuses a nested one: two pools could wait for each other."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __enter__(self) -> None:
        holder = open_transaction.get()
        assert holder is None, f"{self._module} opened a transaction while one of {holder} is open; finish it first"
        self._token = open_transaction.set(self._module)

    def __exit__(self, *_: object) -> None:
        open_transaction.reset(self._token)
